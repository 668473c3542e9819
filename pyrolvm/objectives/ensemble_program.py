"""One step of many Pyro programs as one program on stacked tensors.

The ordinary Pyro step of one member is captured once as a graph of tensor operations, from its
parameters and data to the loss and its gradients; its parameters are recognised where Pyro meets
them, so that stores, constraints and handlers work as ever. The graph is mapped over members
(``torch.func.vmap``) and captured again, which leaves plain batched operations: a step then costs
neither Python in Pyro nor one small operation for each member.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from pyrolvm.core import Data, own_parameters
from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.ensemble_buffers import own_buffers
from pyrolvm.objectives.ensemble_draws import own_draws
from pyrolvm.objectives.ensemble_loss import EnsembleLoss, observing
from pyrolvm.objectives.ensemble_members import PairTensors

Losses = tuple[Tensor, list[Tensor]]


class BatchedStep:
    """Losses of all members, and their gradients.

    Args:
        loss: The loss of one member.
        model: A member's model; all others are the same program with other tensors.
        guide: Its guide.
        stack: Tensors of all members.
        weights: Weights of rates, shape ``(members, sites)``, or None.
        batch: Data of one step: of each member with members first, or of all at once.
        shared: Whether all members see the same data.
        generators: Random numbers of each member.

    Raises:
        IncompatiblePairError: If the program cannot be run for all members at once.
    """

    def __init__(
        self,
        loss: EnsembleLoss,
        model: Any,
        guide: Any,
        stack: PairTensors,
        weights: Tensor | None,
        batch: Data,
        shared: bool,
        generators: Sequence[torch.Generator],
    ) -> None:
        one = batch if shared else batch.rows(torch.tensor(0))
        own = None if weights is None else weights[0]
        dims = (0, 0, None if weights is None else 0, None if shared else 0)
        inputs = _inputs(stack, weights, batch)
        try:
            with own_randomness(0), pyro.validation_enabled(False):
                alone = captured_step(loss, model, guide, one, own)
                own_buffers(alone, len(list(batch.items())) if shared else 0)
                batched = vmap(alone, in_dims=dims, randomness="different")
                self._graph = make_fx(batched)(*inputs)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise IncompatiblePairError(
                "fit_ensemble cannot run these programs for all members at once, because what "
                f"they do depends on the values of tensors, or an operation has no batched form: "
                f"{reason} Train them with lvm.fit, one after another."
            ) from error
        self._graph.graph.eliminate_dead_code()
        own_draws(self._graph, generators)

    @torch.no_grad()
    def __call__(self, stack: PairTensors, weights: Tensor | None, batch: Data) -> Losses:
        """Return losses of shape ``(members,)`` in nats, and the gradients of what learns."""
        losses, *gradients = self._graph(*_inputs(stack, weights, batch))
        return losses, gradients


def _inputs(stack: PairTensors, weights: Tensor | None, batch: Data) -> tuple[Any, ...]:
    tensors = [value for _, value in batch.items()]
    return list(stack.learning.values()), list(stack.fixed.values()), weights, tensors


def captured_step(
    loss: EnsembleLoss, model: Any, guide: Any, batch: Data, weights: Tensor | None
) -> GraphModule:
    """Return the loss and the gradients of one pair as a graph.

    Args:
        loss: Of the pair.
        model: Its model.
        guide: Its guide.
        batch: Data of one step.
        weights: Weights of rates, shape ``(sites,)``, or None.

    Returns:
        A function of lists of the learning and of the fixed tensors, the weights, and a list of
        the tensors of the data; gives the loss and one gradient for each learning tensor.
    """
    tensors = PairTensors.of(model, guide)
    names = [name for name, _ in batch.items()]
    seen = observing(model)

    def step(
        learning: list[Tensor], fixed: list[Tensor], weights: Tensor | None, data: list[Tensor]
    ) -> tuple[Tensor, ...]:
        values = dict(zip(names, data, strict=True))
        positional = None if batch.positional is None else values.pop("x")
        value = loss(seen, guide, Data(positional, values), weights)
        gradients = gradients_of(value, learning)
        return (value.detach(), *gradients)

    with own_parameters(model, guide), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_fx(step)(*_inputs(tensors, weights, batch))


def gradients_of(value: Tensor, learning: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of each tensor, zeros for one that the value does not depend on."""
    found = torch.autograd.grad(value, list(learning), allow_unused=True)
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(learning, found, strict=True)
    ]
