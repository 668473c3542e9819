"""Is everything as it was when a program was captured? Looked at before every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrolvm.objectives.compiled.state import ProgramState

_ABSENT = object()


class Guard:
    """Remembers what a captured program stands on, and says whether that has changed.

    Args:
        state: Of model, guide and objective.
        learning: Parameters that the program takes as inputs and whose gradients it gives.
        constants: Tensors that stand in it.
    """

    def __init__(
        self,
        state: ProgramState,
        learning: Sequence[Tensor],
        constants: Sequence[Tensor],
    ) -> None:
        own = {id(tensor) for tensor in learning}
        self._plain = [(holder, key, holder.get(key)) for holder, key in state.plain_places()]
        places = (*state.tensor_places(), *state.part_places())
        self._placed: list[tuple[Any, Any, Any]] = [(held, key, held[key]) for held, key in places]
        store = pyro.get_param_store()._params
        self._placed += [(store, name, value) for name, value in store.items() if id(value) in own]
        others = [tensor for tensor in (*state.tensors(), *constants) if id(tensor) not in own]
        self._versions = [(tensor, tensor._version) for tensor in others]
        self._learning = [(tensor, tensor.data_ptr()) for tensor in learning]
        self._learns = [(tensor, tensor.requires_grad) for tensor in (*state.tensors(), *learning)]
        self._surroundings = surroundings()

    def change(self) -> str | None:  # noqa: PLR0911 - one for each kind of thing
        """Name what has changed; None where everything is as it was."""
        for holder, key, value in self._plain:
            now = holder.get(key, _ABSENT)
            if now is not value and (type(now) is not type(value) or now != value):
                return f"{key!r} was {value!r} and is {now!r}"
        for holder, key, tensor in self._placed:
            if holder.get(key) is not tensor:
                return f"{key!r} was replaced"
        for tensor, version in self._versions:
            if tensor._version != version:
                return f"a tensor of shape {tuple(tensor.shape)} that does not learn was changed"
        for tensor, place in self._learning:
            if tensor.data_ptr() != place:
                return f"a parameter of shape {tuple(tensor.shape)} was moved"
        for tensor, learns in self._learns:
            if tensor.requires_grad != learns:
                return f"a tensor of shape {tuple(tensor.shape)} was frozen or set free"
        if surroundings() != self._surroundings:
            return "torch's default type, threads or modes, or Pyro's handlers around the step"
        return None


def surroundings() -> tuple[Any, ...]:
    """Global settings that a captured program depends on."""
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        len(pyro.poutine.runtime._PYRO_STACK),
    )
