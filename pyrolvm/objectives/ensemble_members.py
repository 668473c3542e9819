"""The parameters of pairs of equal shape, stacked along a first axis, and put back again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.core.program_state import program_tensors
from pyrolvm.core.tracing import PairTrace


@dataclass(frozen=True)
class PairTensors:
    """Parameters and buffers of one pair, or of several pairs with members first.

    Args:
        learning: Parameters that are trained, by name.
        fixed: Frozen parameters and buffers, by name.
    """

    learning: dict[str, Tensor]
    fixed: dict[str, Tensor]

    @classmethod
    def of(cls, model: Any, guide: Any) -> PairTensors:
        """Return the tensors of a pair themselves, not copies."""
        tensors = program_tensors(model, guide)
        learning = {name: value for name, value in tensors.items() if value.requires_grad}
        fixed = {name: value for name, value in tensors.items() if name not in learning}
        return cls(learning, fixed)

    def items(self) -> list[tuple[str, Tensor]]:
        """All tensors with their names."""
        return [*self.learning.items(), *self.fixed.items()]

    def member(self, number: int) -> dict[str, Tensor]:
        """Copy the tensors of one member out of a stack."""
        return {name: value[number].clone() for name, value in self.items()}

    def copied(self) -> PairTensors:
        """Copy all tensors."""
        return PairTensors(
            {name: value.detach().clone() for name, value in self.learning.items()},
            {name: value.detach().clone() for name, value in self.fixed.items()},
        )

    @torch.no_grad()
    def take(self, values: dict[str, Tensor]) -> None:
        """Set all tensors to the given values."""
        for name, tensor in self.items():
            tensor.copy_(values[name])


def stacked(pairs: Sequence[PairTensors]) -> PairTensors:
    """Copy the tensors of pairs into one stack, members first.

    Raises:
        IncompatiblePairError: If pairs do not agree in names, shapes, types and in what learns;
            names the first tensor that differs.
    """
    for number, pair in enumerate(pairs[1:], 1):
        _require_alike(pairs[0], pair, number)
    with torch.no_grad():
        return PairTensors(
            {name: torch.stack([p.learning[name] for p in pairs]) for name in pairs[0].learning},
            {name: torch.stack([p.fixed[name] for p in pairs]) for name in pairs[0].fixed},
        )


def _require_alike(first: PairTensors, other: PairTensors, number: int) -> None:
    here, there = _described(first), _described(other)
    for name in (*here, *there):
        mine, theirs = here.get(name, "absent"), there.get(name, "absent")
        if mine != theirs:
            raise IncompatiblePairError(
                "Members of an ensemble need parameters of the same names and shapes, but "
                f"{name!r} is {mine} in member 0 and {theirs} in member {number}. Leave settings "
                "that change shapes out of the grid, and train one ensemble for each of them."
            )


def _described(pair: PairTensors) -> dict[str, str]:
    return {
        name: f"{'trained' if name in pair.learning else 'fixed'}, {str(value.dtype)[6:]}, of "
        f"shape {tuple(value.shape)}"
        for name, value in pair.items()
    }


def require_in_modules(pair: PairTrace, tensors: PairTensors) -> None:
    """Refuse a program with parameters in Pyro's store alone: members would share them.

    Raises:
        IncompatiblePairError: Naming the first.
    """
    own = {id(tensor) for _, tensor in tensors.items()}
    leaves = dict(pyro.get_param_store().named_parameters())
    for trace in (pair.model, pair.guide):
        for name, node in dict(trace.nodes).items():
            if node["type"] == "param" and name in leaves and id(leaves[name]) not in own:
                raise IncompatiblePairError(
                    f"The parameter {name!r} lives in Pyro's store, where all members of an "
                    "ensemble would share it. Make it an nn.Parameter or a PyroParam of a "
                    "PyroModule."
                )
