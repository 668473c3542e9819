"""Run programs for measurement: double precision, evaluation mode, and nobody's parameters
disturbed.

Log densities of 64 observations in float32 are off by 1e-5 nats and more, which is more than an
exact guide's gap. Parameters are therefore swapped for float64 copies while a pair is measured,
and given back untouched. Parameters of Pyro modules live in the modules; a parameter store with
stale values under the same names (left by an earlier fit) must not stand in for them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType
from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyrolvm.core.guide import Guide

_LIBRARIES = ("torch", "pyro.", "numpy")  # their functions hold no model


def reachable_modules(*programs: Any) -> list[nn.Module]:
    """Find the modules that programs hold: themselves, in closures, in globals they name, bound or partial."""
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()
    pending = list(programs)
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, nn.Module):
            found[id(item)] = item
            if isinstance(item, Guide):
                pending.append(item.model)
        elif isinstance(item, MethodType):
            pending += [item.__self__, item.__func__]
        elif isinstance(item, functools.partial):
            pending += [item.func, *item.args, *item.keywords.values()]
        elif isinstance(item, FunctionType) and not item.__module__.startswith(_LIBRARIES):
            cells = [c.cell_contents for c in item.__closure__ or () if _is_filled(c)]
            names = [item.__globals__.get(name) for name in item.__code__.co_names]
            pending += [*cells, *names, getattr(item, "__wrapped__", None)]
        elif isinstance(item, (list, tuple)):
            pending += [part for part in item if isinstance(part, (nn.Module, FunctionType))]
        elif isinstance(item, dict):
            pending += [
                part for part in item.values() if isinstance(part, (nn.Module, FunctionType))
            ]
    return list(found.values())


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


@contextmanager
def own_parameters(*programs: Any, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Let modules use their own parameters, whatever the global parameter store holds under their
    names.

    Args:
        *programs: Models and guides; parameters that live only in the store stay visible to them.
        dtype: Floating parameters of the store are copied to this type inside; without it, what
            becomes of them inside (training) stays in the store afterwards.
    """
    store = pyro.get_param_store()
    state = store.get_state()
    owned = {
        f"{module._pyro_name}.{name}" if module._pyro_name else name
        for module in programs
        if isinstance(module, PyroModule)
        for name, _ in module.named_pyro_params()
    }
    params = {
        name: value.detach().to(dtype).requires_grad_()
        if dtype and value.is_floating_point()
        else value
        for name, value in _without(state["params"], owned).items()
    }
    constraints = {name: state["constraints"][name] for name in params}
    inside = {"params": params, "constraints": constraints}
    try:
        with store.scope(inside):
            yield
    finally:
        if dtype is None:
            store.set_state({key: _without(values, owned) for key, values in inside.items()})


def _without(values: dict[str, Any], owned: set[str]) -> dict[str, Any]:
    divider = "$$$"  # Pyro's, between the name of a module and that of its parameter
    return {
        name: value for name, value in values.items() if name.replace(divider, ".") not in owned
    }


@contextmanager
def evaluating(*programs: Any, dtype: torch.dtype = torch.float64) -> Iterator[None]:
    """Measure programs: no gradients, evaluation mode, float64, validation off, parameters given
    back after.

    Args:
        *programs: Models and guides (modules, functions, bound methods).
        dtype: Precision of everything inside.
    """
    modules = reachable_modules(*programs)
    parts = {id(part): part for module in modules for part in module.modules()}.values()
    tensors = _floating_tensors(modules)
    saved = [(tensor, tensor.data) for tensor in tensors]
    modes = [(part, part.training) for part in parts]
    default = torch.get_default_dtype()
    with ExitStack() as stack:
        try:
            torch.set_default_dtype(dtype)
            for tensor in tensors:
                tensor.data = tensor.data.to(dtype)
            for part, _ in modes:
                part.training = False
            stack.enter_context(own_parameters(*modules, dtype=dtype))
            stack.enter_context(torch.no_grad())
            yield
        finally:
            stack.close()
            for tensor, data in saved:
                tensor.data = data
            for part, mode in modes:
                part.training = mode
            torch.set_default_dtype(default)


def _floating_tensors(modules: list[nn.Module]) -> list[Tensor]:
    found = {
        id(tensor): tensor
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
        if tensor.is_floating_point()
    }
    return list(found.values())
