"""The binary sets of the catalogue, from the cache or else from where they are published.

In the cache a set is one packed file, ``<cache>/<name>.npz`` (see :mod:`pyrolvm.datasets.splits`).
Without it, files of the publisher that lie in ``<cache>/<name>/`` are read, those that are missing
are downloaded, and the packed file is written. Rows that do not have the checksum of the catalogue
are refused, wherever they come from; their order is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError, RunFolderError, UnknownNameError
from pyrolvm.datasets.binary_catalogue import BINARY_SETS, BinarySet
from pyrolvm.datasets.binary_sources import Source, download
from pyrolvm.datasets.cache import VARIABLE, cache_folder
from pyrolvm.datasets.dataset import Dataset
from pyrolvm.datasets.files import PARTS
from pyrolvm.datasets.splits import Splits, read_splits, row_checksum, write_splits

_WRITING = Lock()


def binary_set(name: str) -> Dataset:
    """A published set of rows of 0 and 1, in its split, in the order of its file.

    Rows may be sorted: those of ``binarized_mnist`` to test on are, by class. Shuffle before you
    take a part of them, as :meth:`Dataset.subset` does. Labels are there if the packed file has
    them; the publishers' own files have none.

    Args:
        name: A key of :data:`~pyrolvm.datasets.binary_catalogue.BINARY_SETS`.

    Returns:
        Rows to train on, to validate and to test on.

    Raises:
        UnknownNameError: If there is no such set.
        DataError: If the files are not there and cannot be fetched, or hold other rows.
    """
    if name not in BINARY_SETS:
        raise UnknownNameError("binary data set", name, BINARY_SETS)
    known = BINARY_SETS[name]
    splits = _from_cache(known) or _from_publisher(known)
    rows = {p: torch.from_numpy(bits.astype(np.float32)) for p, bits in splits.rows.items()}
    labels = {p: torch.from_numpy(each) for p, each in splits.labels.items()}
    where = known.source.base_url if known.source else "no public files of this split"
    return Dataset(
        name=name,
        train=rows["train"],
        valid=rows["valid"],
        test=rows["test"],
        train_labels=labels.get("train"),
        valid_labels=labels.get("valid"),
        test_labels=labels.get("test"),
        image_shape=known.image_shape,
        kind="binary",
        source="; ".join(part for part in (known.cite, where, known.note) if part),
        licence=known.licence,
    )


def fetch_binary_set(name: str) -> tuple[Path, ...]:
    """Put a set into the cache, unless it is there.

    Args:
        name: A key of :data:`~pyrolvm.datasets.binary_catalogue.BINARY_SETS`.

    Returns:
        Its files: the packed one, or the publisher's in a cache that cannot be written to.

    Raises:
        UnknownNameError: If there is no such set.
        DataError: If the files are not there and cannot be fetched, or hold other rows.
    """
    binary_set(name)
    return cached_files(BINARY_SETS[name])


def cached_files(known: BinarySet) -> tuple[Path, ...]:
    """Files of the cache that hold a set: one packed, or all of the publisher's; none if neither.

    Args:
        known: The set.

    Returns:
        Their paths; what is in them is checked when they are read.
    """
    for name in (f"{known.name}.npz", known.other_file):
        if name and (cache_folder() / name).is_file():
            return (cache_folder() / name,)
    raw = [_raw_folder(known) / file for file in known.source.files] if known.source else []
    return tuple(raw) if all(path.is_file() for path in raw) else ()


def _raw_folder(known: BinarySet) -> Path:
    return cache_folder() / known.name


def _from_cache(known: BinarySet) -> Splits | None:
    files = cached_files(known)
    if len(files) != 1 or files[0].parent != cache_folder():
        return None
    try:
        splits = read_splits(files[0])
    except DataError as error:
        raise DataError(f"{error} {_remedy(known)}") from error
    _check(known, splits.rows, str(files[0]))
    return splits


def _from_publisher(known: BinarySet) -> Splits:
    source = known.source
    if source is None:
        raise DataError(
            f"{known.name!r} is not in {cache_folder()} and cannot be downloaded: {known.note}. "
            f"{_remedy(known)}"
        )
    with TemporaryDirectory() as scratch:
        paths = [_raw_file(known, source, file, Path(scratch)) for file in source.files]
        fetched = [path.parent != _raw_folder(known) for path in paths]
        names = [
            source.base_url + path.name if is_new else str(path)
            for path, is_new in zip(paths, fetched, strict=True)
        ]
        try:
            splits = source.read(paths, known.dim)
        except DataError as error:
            raise DataError(
                f"The files of {known.name!r} ({', '.join(names)}) cannot be used: {error} "
                f"{_remedy(known)}"
            ) from error
    _check(known, splits.rows, ", ".join(names))
    try:
        with _WRITING:
            write_splits(cache_folder() / f"{known.name}.npz", splits, known.image_shape)
    except RunFolderError:
        if any(fetched):  # files that lie in a cache that cannot be written to serve as they are
            raise
    return splits


def _raw_file(known: BinarySet, source: Source, file: str, scratch: Path) -> Path:
    """The publisher's file, where it lies in the cache, or else downloaded to a scratch folder."""
    path = _raw_folder(known) / file
    if path.is_file():
        return path
    try:
        download(source.base_url + file, scratch / file)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{known.name!r} is not in {cache_folder()}, and fetching {file} from "
            f"{source.base_url} failed: {error}. Put {known.name}.npz into {cache_folder()} or "
            f"{', '.join(source.files)} into {path.parent} by hand, or set {VARIABLE} to a folder "
            "that has them."
        ) from error
    return scratch / file


def _check(known: BinarySet, rows: Mapping[str, NDArray[np.uint8]], origin: str) -> None:
    for part, size, checksum in zip(PARTS, known.sizes, known.checksums, strict=True):
        wanted, came = (size, known.dim), rows[part].shape
        if came != wanted:
            differs = f"shape {came}, not {wanted}"
        elif (sum_ := row_checksum(rows[part])) != checksum:
            differs = f"checksum {sum_[:12]}…, not {checksum[:12]}… (SHA-256 of the sorted rows)"
        else:
            continue
        raise DataError(
            f"{origin} should hold the rows of {known.name!r}, but its {part} rows have the "
            f"{differs}. {_remedy(known)}"
        )


def _remedy(known: BinarySet) -> str:
    fetched = "move wrong files away, so that they are fetched, or " if known.source else ""
    return (
        f"To mend it, {fetched}put a {known.name}.npz with the right rows into {cache_folder()}, "
        f"or set {VARIABLE} to a folder that has one; other rows are loaded by the path of their "
        "own file."
    )
