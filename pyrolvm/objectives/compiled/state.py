"""What a program stands on beside its arguments: tensors, modules, and all that it looks up."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pyrolvm.core.reachable import reachable_items
from pyrolvm.objectives.compiled.places import Places


class ProgramState:
    """Tensors and modules of programs, and the places where they look things up.

    Args:
        *programs: Models, guides, functions that are objectives, and objects among the arguments.
        settings: An object whose own plain values count, too.

    Attributes:
        rebound: Entries that a library's modules replace in every run, and that do not count.
    """

    def __init__(self, *programs: Any, settings: Any = None) -> None:
        self._programs, self._settings = programs, settings
        self.rebound: set[tuple[int, Any]] = set()
        items = reachable_items(*programs)
        self.modules = list(
            {
                id(part): part
                for item in items
                if isinstance(item, nn.Module)
                for part in item.modules()
            }.values()
        )
        self.loose = [item for item in items if isinstance(item, Tensor)]

    def places(self) -> Places:
        """Return everything that the programs look up, as it is now."""
        return Places(*self._programs, settings=self._settings, left_out=self.rebound)

    def tensors(self) -> list[Tensor]:
        """Parameters, buffers and loose tensors, each once."""
        held = [
            tensor
            for module in self.modules
            for holder in (module._parameters, module._buffers)
            for tensor in holder.values()
        ]
        found = [tensor for tensor in (*held, *self.loose) if isinstance(tensor, Tensor)]
        return list({id(tensor): tensor for tensor in found}.values())

    def hooked(self) -> nn.Module | None:
        """A module with hooks, if there is one."""
        return next((module for module in self.modules if _has_hooks(module)), None)


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
