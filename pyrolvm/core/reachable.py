"""Find the modules and tensors that a program uses, wherever it keeps them.

A plain Pyro program is a function or a bound method; its networks sit in closures, in globals that
it names, in attributes of its object, or under Pyro's handlers.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

_LIBRARIES = {"torch", "pyro", "numpy", "scipy", "pandas", "matplotlib", *sys.stdlib_module_names}


def reachable(*programs: Any) -> tuple[list[nn.Module], list[Tensor]]:
    """Return the outermost modules and the loose floating tensors that programs hold, each once.

    Args:
        *programs: Modules, functions, bound methods, partials, or programs under Pyro's handlers.

    Returns:
        Modules in the order in which they are found, the same in every process; tensors that are
        neither parameters nor buffers.
    """
    items = reachable_items(*programs)
    modules = [item for item in items if isinstance(item, nn.Module)]
    tensors = [
        item
        for item in items
        if isinstance(item, Tensor)
        and item.is_floating_point()
        and not isinstance(item, nn.Parameter)
    ]
    parts = {id(part) for module in modules for part in module.modules() if part is not module}
    return [module for module in modules if id(module) not in parts], tensors


def reachable_items(*programs: Any) -> list[Any]:
    """Return everything that programs hold and that may hold networks in turn, each once."""
    seen: dict[int, Any] = {}
    pending = list(reversed(programs))
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if not isinstance(item, Tensor):
            pending += reversed(list(_held_by(item)))
    return list(seen.values())


def reachable_modules(*programs: Any) -> list[nn.Module]:
    """Return the outermost modules that programs hold, each once."""
    return reachable(*programs)[0]


def _held_by(item: Any) -> Iterator[Any]:
    if isinstance(item, nn.Module):
        for part in item.modules():
            yield from filter(_is_plain, vars(part).values())
    elif isinstance(item, MethodType):
        yield from (item.__self__, item.__func__)
    elif isinstance(item, functools.partial):
        yield from (item.func, *item.args, *item.keywords.values())
    elif isinstance(item, FunctionType):
        if not is_of_library(item.__module__):
            yield from _held_by_function(item)
    elif isinstance(item, (list, tuple)):
        yield from filter(_is_plain, item)
    elif isinstance(item, dict):
        yield from filter(_is_plain, item.values())
    elif isinstance(item, Distribution) or _is_program_object(item):
        yield from filter(_is_plain, vars(item).values())


def _held_by_function(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    for name in dict.fromkeys(_names(function.__code__)):
        yield function.__globals__.get(name)
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield getattr(function, "__wrapped__", None)


def _names(code: CodeType) -> Iterator[str]:
    """Globals that a function names, functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_plain(item: Any) -> bool:
    """Whether something can hold a network or a tensor: no scalar, string or foreign object."""
    programs = (nn.Module, FunctionType, MethodType, functools.partial)
    return isinstance(item, (*programs, Tensor, Distribution, list, tuple, dict))


def _is_program_object(item: Any) -> bool:
    """Whether an object's attributes may hold networks: a user's object, or a handler of Pyro."""
    if isinstance(item, (type, ModuleType)) or not hasattr(item, "__dict__"):
        return False
    home = type(item).__module__
    return home.startswith("pyro.poutine") or not is_of_library(home)


def is_of_library(module: str | None) -> bool:
    """Whether a module is torch's, Pyro's, Python's own, or of another library of this kind."""
    return module is not None and module.split(".")[0] in _LIBRARIES - {"__main__"}
