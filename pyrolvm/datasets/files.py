"""A user's own rows, from a file: ``.npy``, ``.npz`` or ``.csv``.

Nothing in a file is ever executed: NumPy files are read without pickle.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.dataset import Dataset, kind_of

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".npy", ".npz", ".csv")
TRAIN_KEYS = ("x", "train")
PARTS = ("train", "valid", "test")
OTHER_KEYS = ("valid", "test", "labels_train", "labels_valid", "labels_test", "shape")


def from_file(path: str | Path) -> Dataset:
    """Read a data set from a file of one's own.

    Args:
        path: ``.npy``: one array, rows first. ``.npz``: rows under ``x`` or ``train``, or the only
            array there is; more rows under ``valid`` and ``test``; classes under
            ``labels_train``, ``labels_valid`` and ``labels_test``. ``.csv``: comma-separated
            numbers, one row a line; a first line without any number is a header. Rows with more
            than one axis become images. Bits packed by ``np.packbits(axis=1)`` need the keys
            ``packed`` (true) and ``n_features``; a key ``shape`` gives the image shape. Values are
            not rescaled.

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
    arrays = _read_csv(path) if path.suffix == ".csv" else _chosen(path, read_numpy(path))
    row_shape = arrays["train"].shape[1:]
    sides = arrays.get("shape", row_shape if len(row_shape) > 1 else ())
    rows = {part: _rows(path, part, arrays[part]) for part in PARTS if part in arrays}
    labels = {
        part: torch.from_numpy(whole_labels(path, part, arrays[f"labels_{part}"]))
        for part in PARTS
        if f"labels_{part}" in arrays
    }
    return Dataset(
        name=str(path),
        train=rows["train"],
        valid=rows.get("valid"),
        test=rows.get("test"),
        train_labels=labels.get("train"),
        valid_labels=labels.get("valid"),
        test_labels=labels.get("test"),
        kind=kind_of(torch.cat([part.flatten() for part in rows.values()])),
        image_shape=tuple(int(side) for side in np.atleast_1d(sides)) or None,
        source=str(path.resolve()),
        licence="the owner's",
    )


def _read_csv(path: Path) -> dict[str, NDArray[Any]]:
    return {"train": read_table(path).to_numpy(dtype=np.float64)}


def read_table(path: Path) -> pd.DataFrame:
    """The columns of a ``.csv`` file of numbers; a first line without any number is a header.

    Raises:
        DataError: If it cannot be read, holds text, or carries an index that nobody named.
    """
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
    return table


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


def read_numpy(path: Path, *, keys: Container[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npy`` or ``.npz`` file, never by pickle.

    Args:
        path: The file.
        keys: Those of a ``.npz`` file to read; by default all.

    Returns:
        Arrays by key; that of a ``.npy`` file is called ``train``.

    Raises:
        DataError: If the file cannot be read, or holds Python objects.
    """
    try:
        # NumPy leaves a file open that it fails to read.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"train": loaded}
            return {key: loaded[key] for key in loaded.files if keys is None or key in keys}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as NumPy arrays of numbers: it is damaged or cut off, another "
            "kind of file, or holds Python objects, which would need pickle and are refused. "
            "Write it anew with numpy.save or numpy.savez."
        ) from error


def _chosen(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays ``train`` and :data:`OTHER_KEYS` as far as there are such, bits unpacked."""
    keys = [key for key in TRAIN_KEYS if key in arrays]
    if not keys and len(arrays) == 1:
        keys = list(arrays)
    if len(keys) != 1:
        raise DataError(
            f"{path} needs its rows under one of the keys {', '.join(map(repr, TRAIN_KEYS))} (or "
            f"as the only array), but has {', '.join(map(repr, arrays)) or 'no key'}."
        )
    chosen = {"train": arrays[keys[0]]}
    chosen.update({key: arrays[key] for key in OTHER_KEYS if key in arrays})
    width = packed_width(path, arrays)
    if width is None:
        return chosen
    packed = {part: chosen[part] for part in PARTS if part in chosen}
    return chosen | {part: unpacked(path, part, bits, width) for part, bits in packed.items()}


def packed_width(path: Path, arrays: Mapping[str, NDArray[Any]]) -> int | None:
    """Entries of a row of a file whose bits are packed; None if they are not.

    Raises:
        DataError: If they are packed, but the file does not say how many there are.
    """
    if not np.any(arrays.get("packed", False)):
        return None
    if "n_features" not in arrays:
        raise DataError(
            f"{path} says that its bits are packed, and needs the key 'n_features' too."
        )
    return int(arrays["n_features"])


def unpacked(path: Path, part: str, packed: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """Rows of 0 and 1 from bits that ``np.packbits(axis=1)`` packed.

    Raises:
        DataError: If they are no packed bits, or too few.
    """
    if packed.dtype != np.uint8 or packed.ndim != 2 or not 0 < width <= 8 * packed.shape[1]:
        raise DataError(
            f"{path} needs packed bits, {width} a row, as its {part} rows, but has an array of "
            f"shape {packed.shape} and type {packed.dtype}."
        )
    return np.unpackbits(packed, axis=1)[:, :width]


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


def whole_labels(path: Path, part: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """Labels of one part of a file, in int64.

    Raises:
        DataError: If they are no whole numbers.
    """
    if array.dtype.kind not in "biu":
        raise DataError(
            f"{path} needs whole numbers as its {part} labels, but has the type {array.dtype}."
        )
    return array.astype(np.int64)
