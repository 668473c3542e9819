"""Is everything as it was when a program was captured? Looked at before every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrolvm.objectives.compiled.state import ProgramState


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
        self._places = state.places()
        store = pyro.get_param_store()._params.items()
        self._stored = [(name, value) for name, value in store if id(value) in own]
        others = (*state.tensors(), *self._places.tensors, *constants)
        self._versions = [(t, t._version) for t in _each_once(others) if id(t) not in own]
        self._learning = [(tensor, tensor.data_ptr()) for tensor in learning]
        self._learns = [(tensor, tensor.requires_grad) for tensor in (*state.tensors(), *learning)]
        self._surroundings = surroundings()

    def change(self) -> str | None:  # noqa: PLR0911 - one for each kind of thing
        """Name what has changed; None where everything is as it was."""
        found = self._places.change()
        if found is not None:
            return found
        store = pyro.get_param_store()._params
        for name, value in self._stored:
            if store.get(name) is not value:
                return f"the parameter {name!r} is not in Pyro's store any more"
        for tensor, version in self._versions:
            if tensor._version != version:
                return f"a tensor of shape {tuple(tensor.shape)} that does not learn was changed"
        for tensor, place in self._learning:
            if tensor.data_ptr() != place:
                return f"a parameter of shape {tuple(tensor.shape)} was moved"
        for tensor, learns in self._learns:
            if tensor.requires_grad != learns:
                return f"a tensor of shape {tuple(tensor.shape)} was frozen or set free"
            if has_hooks(tensor):
                return f"a tensor of shape {tuple(tensor.shape)} has hooks"
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
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        len(pyro.poutine.runtime._PYRO_STACK),
    )


def has_hooks(tensor: Tensor) -> bool:
    """Whether something is called when the gradient of a tensor is known."""
    return bool(tensor._backward_hooks or tensor._post_accumulate_grad_hooks)


def _each_once(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())
