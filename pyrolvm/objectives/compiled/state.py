"""What a program stands on beside its arguments: tensors, modes, and plain values.

A captured program takes tensors as inputs. Modes of modules and plain values that a program may
look at stand in it as they were, so that they have to be as they were whenever it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from pyrolvm.core.reachable import reachable_items

PLAIN = (bool, int, float, str, type(None))
Place = tuple[MutableMapping[Any, Any], Any]
"""A dictionary and a key in it."""


class ProgramState:
    """Places of everything that programs hold.

    Args:
        *programs: Models, guides, and functions that are objectives.
        settings: An object whose own plain values count, too.
    """

    def __init__(self, *programs: Any, settings: Any = None) -> None:
        self._settings = vars(settings) if hasattr(settings, "__dict__") else {}
        items = reachable_items(*programs)
        self.modules = list(
            {
                id(part): part
                for item in items
                if isinstance(item, nn.Module)
                for part in item.modules()
            }.values()
        )
        self._items = items
        self.loose = [item for item in items if isinstance(item, Tensor)]

    def tensors(self) -> list[Tensor]:
        """Parameters, buffers and loose tensors, each once."""
        found = {id(value): value for place, key in self.tensor_places() for value in [place[key]]}
        found |= {id(tensor): tensor for tensor in self.loose}
        return list(found.values())

    def tensor_places(self) -> Iterator[Place]:
        """Where the tensors of modules stand."""
        for module in self.modules:
            for holder in (module._parameters, module._buffers):
                for name, value in holder.items():
                    if isinstance(value, Tensor):
                        yield holder, name

    def part_places(self) -> Iterator[Place]:
        """Where the parts of modules stand."""
        for module in self.modules:
            for name in module._modules:
                yield module._modules, name

    def plain_places(self) -> Iterator[Place]:
        """Where values stand that a program may look at."""
        yield from _plain_in(self._settings)
        for module in self.modules:
            if _is_of_torch(module):
                yield module.__dict__, "training"
            else:
                yield from _plain_in(module.__dict__)
        for item in self._items:
            if isinstance(item, FunctionType):
                yield from _plain_of_function(item)
            elif not isinstance(item, (nn.Module, Tensor)) and hasattr(item, "__dict__"):
                yield from _plain_in(vars(item))
            elif isinstance(item, dict):
                yield from _plain_in(item)

    def hooked(self) -> nn.Module | None:
        """A module with hooks, if there is one."""
        return next((module for module in self.modules if _has_hooks(module)), None)


def _plain_in(holder: Any) -> Iterator[Place]:
    if isinstance(holder, MutableMapping):
        for name, value in list(holder.items()):
            if type(value) in PLAIN:
                yield holder, name


def _plain_of_function(function: FunctionType) -> Iterator[Place]:
    held = function.__globals__
    for name in function.__code__.co_names:
        if type(held.get(name, ...)) in PLAIN:
            yield held, name
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield _Cell(cell), name


class _Cell(dict[str, Any]):
    """A variable of an enclosing function, read as if it stood in a dictionary."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell

    def get(self, _: Any, default: Any = None) -> Any:
        """Return the variable's value if it is a plain one."""
        try:
            value = self.cell.cell_contents
        except ValueError:
            return default
        return value if type(value) in PLAIN else type(value)


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules.")


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
