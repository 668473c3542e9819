"""The trained numbers of a model and guide pair, in modules or in Pyro's parameter store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyrolvm.core.checkpoint import tensor_digest
from pyrolvm.core.errors import CheckpointError
from pyrolvm.core.reachable import reachable_modules


def program_state(model: Any, guide: Any) -> dict[str, Tensor]:
    """Copy every parameter and buffer of a pair.

    Args:
        model: A module, or any Pyro program.
        guide: Likewise.

    Returns:
        Tensors by name: ``model.…`` and ``guide.…`` from modules, ``model[0].…`` from modules that
        a function or bound method uses, ``store.…`` for (unconstrained) parameters that live in
        Pyro's store alone.
    """
    state: dict[str, Tensor] = {}
    for prefix, module in _modules(model, guide):
        for name, value in module.state_dict().items():
            state[f"{prefix}.{name}"] = value.detach().clone()
    for name, value in _store_only(model, guide).items():
        state[f"store.{name}"] = value.detach().clone()
    return state


def program_tensors(model: Any, guide: Any) -> dict[str, Tensor]:
    """Return the parameters and buffers of a pair's modules themselves, not copies.

    Args:
        model: A module, or a program that uses modules.
        guide: Likewise.

    Returns:
        Tensors by name, as in :func:`program_state`; a tensor that two modules share comes once.
    """
    found: dict[int, tuple[str, Tensor]] = {}
    for prefix, module in _modules(model, guide):
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            found.setdefault(id(value), (f"{prefix}.{name}", value))
    return dict(found.values())


def load_program_state(model: Any, guide: Any, state: dict[str, Tensor], source: object) -> None:
    """Give a pair the numbers that :func:`program_state` copied; all of them, or none.

    Args:
        model: The same kind of program as before.
        guide: Likewise.
        state: Tensors by name.
        source: Where they come from, for the error message.

    Raises:
        CheckpointError: If names or shapes do not fit; nothing has been changed then.
    """
    stored = _store_only(model, guide)
    now = {n: t for n, t in program_state(model, guide).items() if not n.startswith("store.")}
    now |= {f"store.{name}": value for name, value in stored.items() if f"store.{name}" in state}
    for name in sorted(now.keys() | state.keys()):
        mine, other = (_shape(each.get(name)) for each in (now, state))
        if mine != other:
            raise CheckpointError(
                f"{source} holds the weights of another pair: {name!r} is {other} there, but "
                f"{mine} here. Choose another checkpoint file, or delete this one."
            )
    for prefix, module in _modules(model, guide):
        start = f"{prefix}."
        part = {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}
        module.load_state_dict(part)
    with torch.no_grad():
        for name, value in stored.items():
            if f"store.{name}" in state:
                value.copy_(state[f"store.{name}"])


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"of shape {tuple(tensor.shape)}"


def state_digest(program: Any) -> str:
    """Hash every parameter and buffer of a program's modules."""
    return tensor_digest(
        (f"{prefix}.{name}", value)
        for prefix, module in _modules(program, None)
        for name, value in module.state_dict().items()
    )


def parameter_name(model: Any, guide: Any, parameter: Tensor) -> str:
    """Name a parameter of a pair as :func:`program_state` does, the same in every process."""
    for prefix, module in _modules(model, guide):
        for name, tensor in module.named_parameters():
            if tensor is parameter:
                return f"{prefix}.{name}"
    return f"store.{pyro.get_param_store().param_name(parameter)}"


def _modules(model: Any, guide: Any) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a pair with their prefixes, each once, whole ones before their parts."""
    seen: set[int] = set()
    programs = {"model": model, "guide": guide}
    for prefix, program in programs.items():
        if isinstance(program, nn.Module):
            seen |= {id(part) for part in program.modules()}
            yield prefix, program
    for prefix, program in programs.items():
        if not isinstance(program, nn.Module):
            found = [module for module in reachable_modules(program) if id(module) not in seen]
            seen |= {id(module) for module in found}
            yield from ((f"{prefix}[{number}]", module) for number, module in enumerate(found))


def _store_only(model: Any, guide: Any) -> dict[str, Tensor]:
    """Parameters in the store whose tensors belong to no module of the pair."""
    own = {id(t) for _, module in _modules(model, guide) for t in module.parameters()}
    return {n: p for n, p in pyro.get_param_store().named_parameters() if id(p) not in own}
