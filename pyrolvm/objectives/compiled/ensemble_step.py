r"""The whole step of all members of an ensemble as one program.

.. math:: (\theta_m, a_m; \eta, \beta_m, x, \epsilon_m)_m \mapsto (\mathcal L_m)_m, \qquad
          \theta_m, a_m \text{ changed in place}

with Adam's memory :math:`a_m` and the random numbers :math:`\epsilon_m`. A member whose loss or
gradient is not finite keeps its state from there on. All members have taken the same number of
steps, so that Adam's corrections for its start are two numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule

from pyrolvm.objectives.compiled.adam import AdamRule
from pyrolvm.objectives.compiled.graph import program_of
from pyrolvm.objectives.ensemble_members import PairTensors

RULE = AdamRule()


@dataclass(frozen=True)
class EnsembleState:
    """What the steps of an ensemble change, and what they read beside their data.

    Args:
        stack: Tensors of all members.
        means: Mean gradient of each learning tensor.
        squares: Mean of its squares.
        going: Which members have had nothing but finite steps, shape ``(members,)``.
    """

    stack: PairTensors
    means: list[Tensor]
    squares: list[Tensor]
    going: Tensor

    @classmethod
    def new(cls, stack: PairTensors) -> EnsembleState:
        """Return the state before the first step."""
        learning = list(stack.learning.values())
        going = torch.ones(len(learning[0]), dtype=torch.bool, device=learning[0].device)
        zeros = [[torch.zeros_like(tensor) for tensor in learning] for _ in range(2)]
        return cls(stack, zeros[0], zeros[1], going)

    def flat(self) -> list[Tensor]:
        """All tensors in one row."""
        stack = self.stack
        return [
            *stack.learning.values(), *stack.fixed.values(), *self.means, *self.squares, self.going
        ]  # fmt: skip


@dataclass(frozen=True)
class EnsembleStep:
    """Loss, gradients and Adam of all members.

    Its inputs are those of :meth:`EnsembleState.flat`, the two :meth:`AdamRule.corrections`, the
    weights of rates if there are any, random numbers, the tables of the data, and the rows of each
    member, shape ``(members, N)``, unless all take all. It returns the losses, NaN where a member
    stops.

    Args:
        member: Loss and gradients of one member: a function of learning and fixed tensors,
            weights, random numbers and data in a row.
        num_learning: How many tensors learn.
        num_fixed: How many do not.
        num_data: Tables of the data.
        num_draws: Tensors of random numbers.
        weighted: Whether rates have weights.
        shared: Whether all members take all rows.
    """

    member: GraphModule
    num_learning: int
    num_fixed: int
    num_data: int
    num_draws: int
    weighted: bool
    shared: bool

    def graph(self, inputs: Sequence[Tensor]) -> GraphModule:
        """Return the program for inputs like these, which are not changed."""
        return program_of(self.run, inputs)

    def run(self, *flat: Tensor) -> tuple[Tensor]:
        """Take a step; changes state in place."""
        parts = _split(
            flat, self.num_learning, self.num_fixed, self.num_learning, self.num_learning, 3,
            int(self.weighted), self.num_draws, self.num_data, int(not self.shared),
        )  # fmt: skip
        learning, fixed, means, squares, (going, *numbers), weights, noise, tables, chosen = parts
        own = [*learning, *fixed, *weights, *noise]
        data = tables if self.shared else [table[chosen[0]] for table in tables]
        dims = (*[0] * len(own), *[None if self.shared else 0] * len(data))
        loss, *gradients = vmap(self.member, in_dims=dims)(*own, *data)
        still = going & _finite(loss, gradients)
        for parameter, gradient, mean, square in zip(
            learning, gradients, means, squares, strict=True
        ):
            _update(numbers, still, parameter, gradient, mean, square)
        going.copy_(still)
        return (torch.where(still, loss, math.nan),)


def _finite(loss: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """Which members have a finite loss and gradient."""
    largest = [gradient.flatten(1).abs().amax(1) for gradient in map(_with_elements, gradients)]
    return torch.stack([loss, *[each.to(loss) for each in largest]]).isfinite().all(0)


def _with_elements(gradient: Tensor) -> Tensor:
    return gradient if gradient.dim() > 1 else gradient.unsqueeze(-1)


def _update(
    numbers: Sequence[Tensor],
    still: Tensor,
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
) -> None:
    """Update one parameter of all members that go on, with Adam's memory, in place."""
    size, factor = (number.to(parameter.dtype) for number in numbers)
    new_mean = mean + (1 - RULE.beta1) * (gradient - mean)
    new_square = RULE.beta2 * square + (1 - RULE.beta2) * gradient * gradient
    new = parameter - size * new_mean / (new_square.sqrt() * factor + RULE.eps)
    goes_on = still.view(-1, *[1] * (parameter.dim() - 1))
    for old, value in ((parameter, new), (mean, new_mean), (square, new_square)):
        old.copy_(torch.where(goes_on, value, old))


def _split(flat: Sequence[Tensor], *counts: int) -> list[list[Tensor]]:
    parts, start = [], 0
    for count in counts:
        parts.append(list(flat[start : start + count]))
        start += count
    return parts
