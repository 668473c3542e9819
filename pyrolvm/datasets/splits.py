"""Rows of 0 and 1 in three splits, in one small file: eight bits a byte.

Such a file has the keys ``train``, ``valid`` and ``test``, rows packed by
``np.packbits(axis=1)``, ``packed`` (true) and ``n_features``; where they are known
``labels_train`` and so on, and ``shape``, that of a row as an image. Files with ``train_data`` in
place of ``train``, and numbers 0 and 1 that are not packed, are read as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.core.files import atomic
from pyrolvm.datasets.files import PARTS, packed_width, read_numpy, unpacked, whole_labels


@dataclass(frozen=True, eq=False)
class Splits:
    """Rows of 0 and 1 by part: ``"train"``, ``"valid"``, ``"test"``.

    Args:
        rows: Shape ``(N, D)`` each, uint8.
        labels: Class of each row, shape ``(N,)``, int64, of the parts that have any.
    """

    rows: Mapping[str, NDArray[np.uint8]]
    labels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def row_checksum(rows: NDArray[np.uint8]) -> str:
    """SHA-256 of the rows in sorted order, so that it is the same for any order of the rows.

    Args:
        rows: Shape ``(N, D)``, one byte an entry.

    Returns:
        64 hexadecimal digits.

    Examples:
        >>> rows = np.eye(3, dtype=np.uint8)
        >>> row_checksum(rows) == row_checksum(rows[::-1])
        True
    """
    return hashlib.sha256(b"".join(sorted(map(bytes, rows)))).hexdigest()


def read_splits(path: Path) -> Splits:
    """Read the three splits from an ``.npz`` file.

    Args:
        path: A file of the form above.

    Returns:
        Rows, and labels if there are any.

    Raises:
        DataError: If the file is unreadable, lacks a split, or holds other numbers than 0 and 1.
    """
    names = {part: (part, f"{part}_data") for part in PARTS}
    labels = {part: f"labels_{part}" for part in PARTS}
    wanted = {"packed", "n_features", *labels.values()}.union(*names.values())
    arrays = read_numpy(path, keys=wanted)
    width = packed_width(path, arrays)
    rows = {}
    for part, keys in names.items():
        key = next((key for key in keys if key in arrays), None)
        if key is None:
            raise DataError(
                f"{path} needs rows under each of the keys {', '.join(PARTS)}, but has none under "
                f"{part!r}."
            )
        rows[part] = _bits(path, part, arrays[key], width)
    found = {part: arrays[key] for part, key in labels.items() if key in arrays}
    return Splits(rows, {part: whole_labels(path, part, each) for part, each in found.items()})


def write_splits(path: Path, splits: Splits, image_shape: tuple[int, ...] | None = None) -> None:
    """Write the three splits, packed; the file appears whole or not at all.

    Args:
        path: File to write; its folder is made if need be.
        splits: Rows, and labels if there are any.
        image_shape: Shape of one row as an image.

    Raises:
        RunFolderError: If the place cannot be written to.
    """
    arrays: dict[str, Any] = {
        part: np.packbits(rows, axis=1) for part, rows in splits.rows.items()
    }
    arrays |= {f"labels_{part}": labels for part, labels in splits.labels.items()}
    if image_shape is not None:
        arrays["shape"] = np.array(image_shape)
    width = splits.rows["train"].shape[1]
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, packed=True, n_features=width, **arrays)


def _bits(path: Path, part: str, array: NDArray[Any], width: int | None) -> NDArray[np.uint8]:
    if width is not None:
        return unpacked(path, part, array, width)
    if array.ndim != 2 or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise DataError(
            f"{path} needs 0 and 1 only, shape (N, D), as its {part} rows, but has other values "
            f"or another shape: {array.shape} of {array.dtype}."
        )
    return array.astype(np.uint8)
