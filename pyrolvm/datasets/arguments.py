"""The arguments of a person's own program, from a file: ``.npz``, ``.npy`` or ``.csv``.

Nothing in a file is ever executed: NumPy files are read without pickle.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.files import SUFFIXES, read_numpy, read_table


def read_arguments(path: str | Path, program: Callable[..., Any]) -> Tensor | dict[str, Tensor]:
    """Read what a program is to be called with.

    Args:
        path: ``.npz``: each array is the argument of its name; a single array is the first
            argument, whatever its name. ``.npy``: the first argument. ``.csv``: where the header
            names arguments of the program, each column is one, shape ``(N,)``; any other is one
            matrix, shape ``(N, columns)``, the first argument.
        program: What is called; a ``.csv`` file is read with its arguments in mind.

    Returns:
        A tensor, or tensors by argument name; real numbers in float32, whole ones in int64.

    Raises:
        DataError: If the file is missing, unreadable or empty, or holds anything but numbers.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES or not path.is_file():
        came = f"ends in {path.suffix!r}" if path.is_file() else "is no file"
        raise DataError(f"A data file must exist and end in {', '.join(SUFFIXES)}; {path} {came}.")
    arrays = _columns(path, program) if path.suffix == ".csv" else read_numpy(path)
    if not arrays:
        raise DataError(f"{path} holds no arrays; the program needs at least one argument.")
    tensors = {name: _tensor(path, name, array) for name, array in arrays.items()}
    return tensors if len(tensors) > 1 else next(iter(tensors.values()))


def _columns(path: Path, program: Callable[..., Any]) -> Mapping[str, NDArray[Any]]:
    table = read_table(path)
    named = set(map(str, table.columns)) <= _argument_names(program)
    if not named:
        return {"data": table.to_numpy(dtype=np.float64)}
    return {str(name): table[name].to_numpy() for name in table.columns}


def _argument_names(program: Callable[..., Any]) -> set[str]:
    called = program.forward if isinstance(program, torch.nn.Module) else program
    try:
        return set(inspect.signature(called).parameters)
    except (TypeError, ValueError):
        return set()


def _tensor(path: Path, name: str, array: NDArray[Any]) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path} needs numbers, but its array {name!r} has type {array.dtype}.")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array if array.dtype.kind == "b" else array.astype(np.int64))
