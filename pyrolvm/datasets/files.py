"""A user's own rows, from a file: ``.npy``, ``.npz`` or ``.csv``.

Nothing in a file is ever executed: NumPy files are read without pickle.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.dataset import Dataset, kind_of

SUFFIXES = (".npy", ".npz", ".csv")
TRAIN_KEYS = ("x", "train")


def from_file(path: str | Path) -> Dataset:
    """Read a data set from a file of one's own.

    Args:
        path: ``.npy``: one array, rows first. ``.npz``: rows under ``x`` or ``train``, or the only
            array there is; held-out rows under ``test``. ``.csv``: comma-separated numbers, one
            row a line; a first line without any number is a header. Rows with more than one axis
            become images. Bits packed by ``np.packbits(axis=1)`` need the keys ``packed`` (true)
            and ``n_features``; a key ``shape`` gives the image shape. Values are not rescaled.

    Returns:
        Rows in float32; the kind (continuous, binary or counts) is read off the values.

    Raises:
        DataError: If the file is missing, unreadable or empty, is of another kind, holds NaN or
            text, or has no rows.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES or not path.is_file():
        raise DataError(
            f"A data file must exist and end in {', '.join(SUFFIXES)}; {path} "
            f"{'ends in ' + repr(path.suffix) if path.is_file() else 'is no file'}."
        )
    arrays = _read_csv(path) if path.suffix == ".csv" else _read_numpy(path)
    row_shape = arrays["train"].shape[1:]
    sides = arrays.get("shape", row_shape if len(row_shape) > 1 else ())
    train = _rows(path, "train", arrays["train"])
    test = _rows(path, "test", arrays["test"]) if "test" in arrays else None
    everything = train if test is None else torch.cat([train.flatten(), test.flatten()])
    return Dataset(
        name=str(path),
        train=train,
        test=test,
        kind=kind_of(everything),
        image_shape=tuple(int(side) for side in np.atleast_1d(sides)) or None,
        source=str(path.resolve()),
        licence="the owner's",
    )


def _read_csv(path: Path) -> dict[str, NDArray[Any]]:
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as lines:
            first = next((line for line in lines if line.strip()), "")
        header = None if any(map(_is_number, first.split(","))) else 0
        table = pd.read_csv(path, header=header, encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as comma-separated values: {error}") from error
    _refuse_text(path, table)
    if str(table.columns[0]).startswith("Unnamed"):
        raise DataError(
            f"The first column of {path} has no name, as a row index has, which is no data. Drop "
            "it (pandas: to_csv(..., index=False)), or name it."
        )
    return {"train": table.to_numpy(dtype=np.float64)}


def _refuse_text(path: Path, table: Any) -> None:
    import pandas as pd

    for column, name in enumerate(table.columns):
        cells = table[name]
        text = pd.to_numeric(cells, errors="coerce").isna() & cells.notna()
        if text.any():
            row = int(text.to_numpy().argmax())
            called = f" ({name})" if isinstance(name, str) else ""
            raise DataError(
                f"{path} needs numbers only, but row {row}, column {column}{called} holds "
                f"{cells.iloc[row]!r}; {int(text.sum())} of {len(cells)} rows of that column hold "
                "text. Drop them, or code them as numbers."
            )


def _is_number(cell: str) -> bool:
    """Whether a cell of the first line is a number, so that the line is no header."""
    try:
        float(cell.strip().strip('"'))
    except ValueError:
        return False
    return True


def _read_numpy(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # NumPy leaves a file open that it fails to read.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"train": loaded}
            arrays = {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as NumPy arrays of numbers: it is damaged or cut off, another "
            "kind of file, or holds Python objects, which would need pickle and are refused. "
            "Write it anew with numpy.save or numpy.savez."
        ) from error
    return _chosen(path, arrays)


def _chosen(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays ``train``, and ``test`` and ``shape`` if there are such, bits unpacked."""
    keys = [key for key in TRAIN_KEYS if key in arrays]
    if not keys and len(arrays) == 1:
        keys = list(arrays)
    if len(keys) != 1:
        raise DataError(
            f"{path} needs its rows under one of the keys {', '.join(map(repr, TRAIN_KEYS))} (or "
            f"as the only array), but has {', '.join(map(repr, arrays)) or 'no key'}."
        )
    chosen = {"train": arrays[keys[0]]}
    chosen.update({key: arrays[key] for key in ("test", "shape") if key in arrays})
    if not np.any(arrays.get("packed", False)):
        return chosen
    if "n_features" not in arrays:
        raise DataError(
            f"{path} says that its bits are packed, and needs the key 'n_features' too."
        )
    width = int(arrays["n_features"])
    packed = {part: chosen[part] for part in ("train", "test") if part in chosen}
    return chosen | {part: np.unpackbits(rows, axis=1)[:, :width] for part, rows in packed.items()}


def _rows(path: Path, part: str, array: NDArray[Any]) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{path} needs real numbers, but its {part} rows have the type {array.dtype}."
        )
    if array.ndim < 2:
        raise DataError(
            f"{path} needs rows and columns, but its {part} rows have the shape {array.shape}. If "
            "each number is a row, save array[:, None]."
        )
    if array.size == 0:
        raise DataError(f"{path} has no numbers: its {part} rows have the shape {array.shape}.")
    with np.errstate(over="ignore"):
        return torch.from_numpy(array.reshape(len(array), -1).astype(np.float32))
