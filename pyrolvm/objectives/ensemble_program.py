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
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule

from pyrolvm.core import Data, own_parameters
from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.compiled.graph import tidy
from pyrolvm.objectives.compiled.tracer import trace
from pyrolvm.objectives.ensemble_buffers import own_buffers
from pyrolvm.objectives.ensemble_draws import own_draws
from pyrolvm.objectives.ensemble_loss import EnsembleLoss, observing
from pyrolvm.objectives.ensemble_members import PairTensors

Losses = tuple[Tensor, list[Tensor]]


@dataclass(frozen=True)
class CapturedMember:
    """The step of one member as a graph.

    Args:
        graph: Takes the learning and the fixed tensors, the weights of rates if there are any, and
            the tensors of the data, in one row; gives the loss and a gradient for each learning
            tensor.
        num_own: How many of its inputs each member has for itself; all members share the rest.
        num_inputs: Number of its inputs.
    """

    graph: GraphModule
    num_own: int
    num_inputs: int

    @property
    def in_dims(self) -> tuple[int | None, ...]:
        """Which inputs have members first when it is mapped over them."""
        return tuple(0 if place < self.num_own else None for place in range(self.num_inputs))


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

    Attributes:
        member: The step of one member.

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
        try:
            with own_randomness(0), pyro.validation_enabled(False):
                self.member = captured_step(loss, model, guide, one, own, shared)
                alone = deepcopy(self.member.graph)
                own_buffers(alone, self.member.num_inputs - self.member.num_own)
                batched = vmap(alone, in_dims=self.member.in_dims, randomness="different")
                with torch.no_grad():
                    self._graph = trace(batched, flat_inputs(stack, weights, batch))
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
        losses, *gradients = self._graph(*flat_inputs(stack, weights, batch))
        return losses, gradients


def flat_inputs(stack: PairTensors, weights: Tensor | None, batch: Data) -> list[Tensor]:
    """All inputs of a step in one row: learning and fixed tensors, weights, data."""
    tensors = [value for _, value in batch.items()]
    own = [] if weights is None else [weights]
    return [*stack.learning.values(), *stack.fixed.values(), *own, *tensors]


def captured_step(
    loss: EnsembleLoss, model: Any, guide: Any, batch: Data, weights: Tensor | None, shared: bool
) -> CapturedMember:
    """Return the loss and the gradients of one pair as a graph.

    Args:
        loss: Of the pair.
        model: Its model.
        guide: Its guide.
        batch: Data of one step.
        weights: Weights of rates, shape ``(sites,)``, or None.
        shared: Whether all members see the same data.
    """
    tensors = PairTensors.of(model, guide)
    names = [name for name, _ in batch.items()]
    seen = observing(model)
    num_learning = len(tensors.learning)

    def step(*flat: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(names, flat[len(flat) - len(names) :], strict=True))
        positional = None if batch.positional is None else values.pop("x")
        own = None if weights is None else flat[len(tensors.items())]
        value = loss(seen, guide, Data(positional, values), own)
        return (value.detach(), *gradients_of(value, flat[:num_learning]))

    inputs = flat_inputs(tensors, weights, batch)
    with own_parameters(model, guide), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = trace(step, inputs)
    tidy(graph)
    num_shared = len(names) if shared else 0
    return CapturedMember(graph, len(inputs) - num_shared, len(inputs))


def gradients_of(value: Tensor, learning: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of each tensor, zeros for one that the value does not depend on."""
    found = torch.autograd.grad(value, list(learning), allow_unused=True)
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(learning, found, strict=True)
    ]
