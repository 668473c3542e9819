"""The trained numbers of a pair in one file, which holds numbers and nothing that could run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from pyrolvm.core.checkpoint import save_tensors
from pyrolvm.core.data import Data
from pyrolvm.core.errors import CheckpointError
from pyrolvm.core.program_state import load_program_state, program_state
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.tracing import run_pair

HOW = "pyrolvm.save_weights(model, guide, 'weights.safetensors')"


def save_weights(model: Callable[..., Any], guide: Callable[..., Any], path: str | Path) -> Path:
    """Save the parameters and buffers of a pair, also those in Pyro's parameter store.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        path: File to write (safetensors), whole or not at all.

    Returns:
        The path.
    """
    save_tensors(Path(path), program_state(model, guide), {})
    return Path(path)


def load_weights(
    model: Callable[..., Any], guide: Callable[..., Any], data: Any, path: str | Path
) -> None:
    """Give a pair the numbers that :func:`save_weights` stored; all of them, or none.

    Args:
        model: The same kind of program as before.
        guide: Likewise.
        data: What both take: programs that make their parameters when they first run are run
            once.
        path: A safetensors file; no other format is read, because others can hold code.

    Raises:
        CheckpointError: If it is another kind of file, or names or shapes do not fit.
    """
    path = Path(path)
    stored = _read(path)
    with own_randomness(0):
        run_pair(model, guide, Data.of(data))
    wanted = program_state(model, guide)
    for name in sorted(wanted.keys() | stored.keys()):
        here, there = (_shape(each.get(name)) for each in (wanted, stored))
        if here != there:
            raise CheckpointError(
                f"{path} does not fit this pair: {name!r} is {there} in the file, but {here} in "
                f"the programs. Write it from the trained pair with {HOW}."
            )
    load_program_state(model, guide, stored, path)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"{path} is no file; weights come from {HOW}.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not read, because it is no safetensors file and other formats of weights, "
            "pickles among them, can hold code that runs when they are loaded; convert it where "
            f"you trust it: load it there as you always do, then {HOW}."
        ) from error


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"of shape {tuple(tensor.shape)}"
