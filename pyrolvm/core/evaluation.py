"""Run programs for measurement: in double precision, with nobody's parameters disturbed.

Log densities of 64 observations in float32 are off by 1e-5 nats and more, which is more than an
exact guide's gap. Parameters are therefore swapped for float64 copies while a pair is measured,
and given back untouched. Parameters of modules live in the modules; a parameter store with stale
values under the same names (left by an earlier fit) must not stand in for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyrolvm.core.reachable import reachable, reachable_modules

_DIVIDER = "$$$"  # Pyro's, between the name of a module and that of its parameter


@contextmanager
def own_parameters(*programs: Any, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Let modules use their own parameters, not those of Pyro's store under the same names.

    Afterwards the store is as it was. Without ``dtype`` (training) two things differ: parameters
    that live in the store alone keep what became of them inside, and values of other modules under
    the names of these are gone, because Pyro would put them in the place of the trained ones.

    Args:
        *programs: Models and guides; parameters that live only in the store stay visible to them.
        dtype: Floating parameters of the store are copied to this type inside.
    """
    store = pyro.get_param_store()
    before = store.get_state()
    modules = reachable_modules(*programs)
    params = {
        name: value if dtype is None else _copied(value, dtype)
        for name, value in before["params"].items()
        if not _belongs(name, value, modules)
    }
    inside: Any = {"params": params, "constraints": _only(before["constraints"], params)}
    try:
        with store.scope(inside):
            try:
                yield
            finally:
                after = store.get_state()
    finally:
        if dtype is None:
            own = {id(p) for module in modules for p in module.parameters()}
            kept = {n: p for n, p in after["params"].items() if id(p) not in own}
            kept |= {n: p for n, p in before["params"].items() if id(p) in own}
            constraints = {**before["constraints"], **after["constraints"]}
            store.clear()
            store.set_state({"params": kept, "constraints": _only(constraints, kept)})


def _only(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names}


def _copied(value: Tensor, dtype: torch.dtype) -> Tensor:
    copy = value.detach().clone()
    return copy.to(dtype).requires_grad_() if value.is_floating_point() else copy


def _belongs(name: str, value: Tensor, modules: list[nn.Module]) -> bool:
    """Whether an entry of the store stands for a parameter of these modules."""
    for module in modules:
        if any(parameter is value for parameter in module.parameters()):
            return True
        if isinstance(module, PyroModule):
            prefix = module._pyro_name
            if prefix and name.startswith((f"{prefix}.", f"{prefix}{_DIVIDER}")):
                return True
            if not prefix and name.replace(_DIVIDER, ".") in dict(module.named_pyro_params()):
                return True
        elif _DIVIDER in name:
            inner = name.split(_DIVIDER, 1)[1]
            for part in module.modules():
                if inner in dict(part.named_parameters()):
                    return True
    return False


@contextmanager
def evaluating(*programs: Any, dtype: torch.dtype = torch.float64) -> Iterator[None]:
    """Measure programs: no gradients, evaluation mode, float64; everything is given back after.

    Args:
        *programs: Models and guides (modules, functions, bound methods).
        dtype: Precision of everything inside.
    """
    modules, loose = reachable(*programs)
    parts = list({id(part): part for module in modules for part in module.modules()}.values())
    saved = {id(t): (t, t.data) for t in (*_floating_tensors(modules), *loose)}
    modes = [(part, part.training) for part in parts]
    loose_names = [(vars(part), name) for part in parts for name in vars(part)]
    held = [(own, name, own[name]) for own, name in loose_names if isinstance(own[name], Tensor)]
    default = torch.get_default_dtype()
    with ExitStack() as stack:
        try:
            torch.set_default_dtype(dtype)
            for tensor, data in saved.values():
                tensor.data = data.to(dtype)
            for part, _ in modes:
                part.training = False
            stack.enter_context(own_parameters(*modules, dtype=dtype))
            stack.enter_context(torch.no_grad())
            yield
        finally:
            stack.close()
            torch.set_default_dtype(default)
            for tensor, data in saved.values():
                tensor.data = data
            for part, mode in modes:
                part.training = mode
            for own, name, tensor in held:  # a program may put its draws there
                own[name] = tensor
            for tensor in _floating_tensors(modules):
                if (
                    id(tensor) not in saved
                ):  # made by the first call of a guide that sets itself up
                    tensor.data = tensor.data.to(default)


def _floating_tensors(modules: list[nn.Module]) -> list[Tensor]:
    found = {
        id(tensor): tensor
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
        if tensor.is_floating_point()
    }
    return list(found.values())
