"""The trained numbers of a model and guide pair, whether they live in modules or in Pyro's parameter store."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyrolvm.core.errors import CheckpointError


def program_state(model: Any, guide: Any) -> dict[str, Tensor]:
    """Copy every parameter and buffer of a pair.

    Args:
        model: A module, or any Pyro program.
        guide: Likewise.

    Returns:
        Tensors by name: ``model.…`` and ``guide.…`` from modules; ``store.…`` for (unconstrained)
        parameters that live in Pyro's store alone.
    """
    state: dict[str, Tensor] = {}
    for prefix, program in (("model", model), ("guide", guide)):
        if isinstance(program, nn.Module):
            entries = program.state_dict()
            state |= {
                f"{prefix}.{name}": value.detach().clone() for name, value in entries.items()
            }
    for name, value in _store_only(model, guide).items():
        state[f"store.{name}"] = value.detach().clone()
    return state


def load_program_state(model: Any, guide: Any, state: dict[str, Tensor], source: object) -> None:
    """Give a pair the numbers that :func:`program_state` copied.

    Args:
        model: The same kind of program as before.
        guide: Likewise.
        state: Tensors by name.
        source: Where they come from, for the error message.

    Raises:
        CheckpointError: If names or shapes do not fit.
    """
    for prefix, program in (("model", model), ("guide", guide)):
        if isinstance(program, nn.Module):
            part = {
                k.removeprefix(f"{prefix}."): v
                for k, v in state.items()
                if k.startswith(f"{prefix}.")
            }
            try:
                program.load_state_dict(part)
            except (RuntimeError, KeyError) as error:
                raise CheckpointError(
                    f"The {prefix} {type(program).__name__} cannot take the weights of {source}: {error}"
                ) from error
    parameters = _store_only(model, guide)
    with torch.no_grad():
        for name, value in state.items():
            if name.startswith("store.") and name.removeprefix("store.") in parameters:
                parameters[name.removeprefix("store.")].copy_(value)


def parameter_name(model: Any, guide: Any, parameter: Tensor) -> str:
    """Name a parameter of a pair as :func:`program_state` does, the same in every process."""
    for prefix, program in (("guide", guide), ("model", model)):
        if isinstance(program, nn.Module):
            for name, tensor in program.named_parameters():
                if tensor is parameter:
                    return f"{prefix}.{name}"
    return f"store.{pyro.get_param_store().param_name(parameter)}"


def _store_only(model: Any, guide: Any) -> dict[str, Tensor]:
    """Parameters in the store whose tensors belong to no module of the pair."""
    own = {
        id(tensor)
        for program in (model, guide)
        if isinstance(program, nn.Module)
        for tensor in program.parameters()
    }
    return {n: p for n, p in pyro.get_param_store().named_parameters() if id(p) not in own}
