"""Find what programs look up when they run: by the names in their code.

An object may hold much that its programs never touch, a history of losses, say, so that only what
code names counts: that of the programs, and of the functions and methods that it names in turn.
"""

from __future__ import annotations

import argparse
import functools
import types
from collections.abc import Iterator, Mapping, Sequence, Set
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.distributions import Distribution

from pyrolvm.core.reachable import is_of_library

PLAIN = (bool, int, float, complex, str, bytes, type(None))
"""Types whose values count by what they are, not by which object holds them."""
PARTS = (
    "_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks",
    "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
"""Dictionaries of a module that its calls look into."""
ENTRIES = ("forward", "model", "guide", "__call__")
"""Methods that are called without being named."""
BY_ANY_NAME = frozenset({"getattr", "vars", "__dict__"})
"""Code with these names may look up attributes that it does not name."""


class Walk:
    """Walks from object to object, and anew as long as the code on the way names more.

    Args:
        programs: Where it starts.
        settings: An object whose own plain values count, too.
        left_out: Entries that do not count: of which dictionary, by its ``id``, and their keys.

    Attributes:
        of_library: Which of ``holders`` are attributes of a library's modules, by their ``id``.
        holders: Dictionaries, and the entries that are looked up in them.
        sized: Dictionaries that must neither grow nor shrink.
        lists: Lists whose items count.
        tensors: Tensors that are looked up.
        arrays: Arrays likewise.
    """

    def __init__(
        self, programs: Sequence[Any], settings: Any, left_out: Set[tuple[int, Any]]
    ) -> None:
        self._left_out, self.of_library = left_out, set[int]()
        self._names: set[str] = set(ENTRIES)
        self._cells: dict[int, _Cell] = {}
        while True:
            known = len(self._names)
            self.holders: dict[int, tuple[Mapping[Any, Any], dict[Any, None]]] = {}
            self.sized: dict[int, Any] = {}
            self.lists: list[list[Any]] = []
            self.tensors: list[Tensor] = []
            self.arrays: list[np.ndarray] = []
            self._seen: dict[int, Any] = {}
            self._classes: set[type] = set()
            self._pending = list(programs)
            self._look_up_plain(settings)
            while self._pending:
                self._visit(self._pending.pop())
            if len(self._names) == known:
                return

    def _visit(self, item: Any) -> None:
        if type(item) in PLAIN or id(item) in self._seen:
            return
        self._seen[id(item)] = item
        if isinstance(item, Tensor):
            self.tensors.append(item)
        elif isinstance(item, np.ndarray):
            self.arrays.append(item)
        elif isinstance(item, nn.Module):
            self._visit_module(item)
        elif isinstance(item, MethodType):
            self._pending += (item.__self__, item.__func__)
        elif isinstance(item, functools.partial):
            self._pending += (item.func, *item.args)
            self._look_up(item.keywords, list(item.keywords))
        elif isinstance(item, FunctionType):
            self._visit_function(item)
        elif isinstance(item, tuple):
            self._pending += item
        elif isinstance(item, list):
            self.lists.append(item)
            self._pending += item
        elif isinstance(item, dict):
            self.sized[id(item)] = item
            self._look_up(item, list(item))
        elif isinstance(item, type):
            self._visit_class(item)
        elif not isinstance(item, ModuleType):
            self._visit_object(item)

    def _look_up(self, holder: Mapping[Any, Any], keys: list[Any]) -> None:
        """Remember entries of a dictionary, and look into what they hold."""
        keys = [key for key in keys if (id(holder), key) not in self._left_out]
        if not keys:
            return
        self.holders.setdefault(id(holder), (holder, {}))[1].update(dict.fromkeys(keys))
        self._pending += [holder[key] for key in keys]

    def _look_up_plain(self, item: Any) -> None:
        held = getattr(item, "__dict__", {})
        self._look_up(held, [name for name, value in held.items() if type(value) in PLAIN])

    def _visit_module(self, module: nn.Module) -> None:
        held = vars(module)
        for part in PARTS:
            self.sized[id(held[part])] = held[part]
            self._look_up(held[part], list(held[part]))
        home = type(module).__module__
        if home.startswith("torch.nn."):
            self._look_up(held, ["training"])
            return
        own = {name: value for name, value in held.items() if name not in PARTS}
        simple = [name for name, value in own.items() if isinstance(value, (*PLAIN, Tensor))]
        self._look_up(held, simple)
        if _is_ours_or_of_library(home):
            self._pending += [value for name, value in own.items() if name not in simple]
            self.of_library.add(id(held))
            return
        self.sized[id(held)] = held
        self._look_up(held, [name for name in own if self._is_named(name)])
        self._visit_class(type(module))

    def _visit_object(self, item: Any) -> None:
        held = getattr(item, "__dict__", None)
        if not isinstance(held, dict):
            return
        home = type(item).__module__
        kinds = (types.SimpleNamespace, argparse.Namespace, Distribution)
        if isinstance(item, kinds) or home.startswith(("pyro.poutine.", "pyrolvm.")):
            self._look_up(held, [name for name, value in held.items() if _holds(value)])
        elif not is_of_library(home):
            self.sized[id(held)] = held
            self._look_up(held, [name for name in held if self._is_named(name)])
            self._visit_class(type(item))

    def _visit_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if _is_ours_or_of_library(base.__module__) or base in self._classes:
                continue
            self._classes.add(base)
            named = [name for name in vars(base) if name in self._names]
            self._look_up(vars(base), named)
            self._pending += [_function_of(vars(base)[name]) for name in named]

    def _visit_function(self, function: FunctionType) -> None:
        self._pending.append(getattr(function, "__wrapped__", None))
        if _is_ours_or_of_library(function.__module__):
            self._pending += [cell[""] for cell in self._cells_of(function).values()]
            return
        names = set(_names(function.__code__))
        self._names |= names
        held = function.__globals__
        self._look_up(held, [name for name in names if name in held])
        for name, cell in self._cells_of(function).items():
            self._look_up(cell, [name])
        self._pending += [
            *(function.__defaults__ or ()),
            *(function.__kwdefaults__ or {}).values(),
        ]
        for name in names:
            if isinstance(held.get(name), ModuleType):
                self._visit_names_of(held[name])

    def _cells_of(self, function: FunctionType) -> dict[str, _Cell]:
        """Variables of enclosing functions that have a value."""
        found = {}
        closed = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in closed:
            if cell != types.CellType():
                found[name] = self._cells.setdefault(id(cell), _Cell(cell))
        return found

    def _visit_names_of(self, module: ModuleType) -> None:
        if not _is_ours_or_of_library(module.__name__):
            held = vars(module)
            self._look_up(held, [name for name in held if name in self._names])

    def _is_named(self, name: str) -> bool:
        return name in self._names or not BY_ANY_NAME.isdisjoint(self._names)


class _Cell(dict[str, Any]):
    """A variable of an enclosing function, as a dictionary with one entry."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell

    def __getitem__(self, _: str) -> Any:
        return self.cell.cell_contents

    def __setitem__(self, _: str, value: Any) -> None:
        self.cell.cell_contents = value


def _names(code: CodeType) -> Iterator[str]:
    """What a function names, functions inside it included; strings may name attributes."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            yield constant


def _function_of(attribute: Any) -> Any:
    """The function behind an attribute of a class."""
    if isinstance(attribute, property):
        return attribute.fget
    return getattr(attribute, "__func__", attribute)


def _holds(value: Any) -> bool:
    """Whether something is a value, or holds values that are looked up."""
    kinds = (Tensor, np.ndarray, dict, list, tuple, FunctionType, MethodType, nn.Module)
    return isinstance(value, (*PLAIN, *kinds))


def _is_ours_or_of_library(module: str | None) -> bool:
    return is_of_library(module) or (module or "").split(".")[0] == "pyrolvm"
