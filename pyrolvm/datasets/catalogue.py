"""Data sets by name: one entry each, so that a name works in Python and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.datasets.bars import DEFAULT_SIDE, bars
from pyrolvm.datasets.binary_catalogue import BINARY_SETS, BinarySet
from pyrolvm.datasets.binary_sets import binary_set, cached_files, fetch_binary_set
from pyrolvm.datasets.cache import cache_folder
from pyrolvm.datasets.classes import SEPARATOR, only_classes
from pyrolvm.datasets.dataset import Dataset, Kind
from pyrolvm.datasets.digits import DIGITS_DIM, NUM_DIGITS, digits
from pyrolvm.datasets.fashion_mnist import (
    FOLDER,
    NUM_PICTURES,
    PICTURES_DIM,
    fashion_mnist,
    fetch_fashion_mnist,
    is_fetched,
)
from pyrolvm.datasets.files import SUFFIXES, from_file
from pyrolvm.datasets.segmented_sources import SegmentedSources
from pyrolvm.datasets.synthetic import (
    DEFAULT_SIZE,
    LICENCE,
    circle,
    gaussian_factors,
    spiral,
    wave,
)
from pyrolvm.datasets.triangular_toy import DEFAULT_SIZE as TRIANGULAR_SIZE
from pyrolvm.datasets.triangular_toy import TriangularToy

Origin: TypeAlias = Literal["embedded", "synthetic", "fetched"]


@dataclass(frozen=True)
class Entry:
    """A data set of the catalogue.

    Args:
        make: Gives the data set for a seed.
        rows: Rows in all, with the defaults.
        dim: Entries of a row.
        origin: ``"embedded"`` in a dependency, ``"synthetic"``, or ``"fetched"``.
        licence: Under which terms.
        place: Says where it lies, or would lie.
        kind: What a likelihood has to match.
        fetch: Puts its files into the cache, for a fetched one.
    """

    make: Callable[[int], Dataset]
    rows: int
    dim: int
    origin: Origin
    licence: str
    place: Callable[[], str]
    kind: Kind = "continuous"
    fetch: Callable[[], tuple[Path, ...]] | None = None


@dataclass(frozen=True)
class Description:
    """One row of the table of data sets.

    Args:
        name: What :func:`load` takes.
        rows: Rows in all.
        dim: Entries of a row.
        origin: ``"embedded"``, ``"synthetic"`` or ``"fetched"``.
        place: Where it lies, or would lie.
        kind: ``"continuous"``, ``"binary"`` or ``"counts"``.
        licence: Under which terms.
    """

    name: str
    rows: int
    dim: int
    origin: Origin
    place: str
    kind: Kind
    licence: str


def _generated(
    make: Callable[..., Dataset],
    dim: int = 2,
    kind: Kind = "continuous",
    rows: int = 2 * DEFAULT_SIZE,
) -> Entry:
    place = "generated, any size"
    return Entry(
        lambda seed: make(seed=seed), rows, dim, "synthetic", LICENCE, lambda: place, kind
    )


def _published(known: BinarySet) -> Entry:
    return Entry(
        lambda seed: binary_set(known.name),
        sum(known.sizes),
        known.dim,
        "fetched",
        known.licence,
        lambda: _binary_place(known),
        "binary",
        lambda: fetch_binary_set(known.name),
    )


def _binary_place(known: BinarySet) -> str:
    files = cached_files(known)
    if len(files) > 1:
        return str(files[0].parent)
    state = "not fetched yet" if known.source else "not there; cannot be downloaded"
    return str(files[0]) if files else f"{cache_folder() / known.name}.npz ({state})"


def _fashion_place() -> str:
    return f"{cache_folder() / FOLDER}{'' if is_fetched() else ' (not fetched yet)'}"


ENTRIES = {
    "bars": _generated(bars, dim=DEFAULT_SIDE**2, kind="binary"),
    "circle": _generated(circle),
    "digits": Entry(
        lambda seed: digits(seed=seed),
        NUM_DIGITS,
        DIGITS_DIM,
        "embedded",
        "CC BY 4.0",
        lambda: "inside scikit-learn",
    ),
    "fashion_mnist": Entry(
        lambda seed: fashion_mnist(),
        NUM_PICTURES,
        PICTURES_DIM,
        "fetched",
        "MIT",
        _fashion_place,
        fetch=fetch_fashion_mnist,
    ),
    "gaussian_factors": _generated(gaussian_factors, dim=8),
    "segmented_sources": _generated(
        lambda seed: SegmentedSources.random(seed=seed).dataset(seed=seed), dim=4, rows=8000
    ),
    "spiral": _generated(spiral),
    "triangular_toy": _generated(
        lambda seed: TriangularToy().dataset(seed=seed), rows=2 * TRIANGULAR_SIZE
    ),
    "wave": _generated(wave),
} | {name: _published(known) for name, known in BINARY_SETS.items()}


def load(name: str | Path, *, seed: int = 0) -> Dataset:
    """A data set by its name, or from a file of one's own.

    Args:
        name: One of :func:`names`, or the path of a ``.npy``, ``.npz`` or ``.csv`` file. A name of
            the catalogue wins over a file of the same name. Of a set with labels some classes can
            be taken alone: ``"digits:0-4"``, ``"digits:1+7"``.
        seed: Of what is random: the rows of a synthetic set, the split of the digits.

    Returns:
        The data set; a fetched one is downloaded first if it is not in the cache.

    Raises:
        UnknownNameError: If it is neither a name nor a path.
        DataError: If a file or a download cannot be used, or classes are not there.

    Examples:
        >>> load("circle").train.shape
        torch.Size([500, 2])
        >>> load("digits:0-4").train_labels.unique()
        tensor([0, 1, 2, 3, 4])
    """
    known, separator, classes = str(name).partition(SEPARATOR)
    if known in ENTRIES:
        dataset = ENTRIES[known].make(seed)
        return only_classes(dataset, classes) if separator else dataset
    path = Path(name).expanduser()
    if path.exists() or path.suffix in SUFFIXES or len(path.parts) > 1:
        return from_file(path)
    raise UnknownNameError("data set", str(name), ENTRIES)


def names() -> tuple[str, ...]:
    """Names that :func:`load` knows, sorted.

    Returns:
        The names.
    """
    return tuple(sorted(ENTRIES))


def describe() -> tuple[Description, ...]:
    """One row a data set, for a table; nothing is loaded or fetched.

    Returns:
        Rows in the order of :func:`names`.
    """
    return tuple(
        Description(
            name, entry.rows, entry.dim, entry.origin, entry.place(), entry.kind, entry.licence
        )
        for name, entry in sorted(ENTRIES.items())
    )


def fetch(name: str) -> tuple[Path, ...]:
    """Download a data set into the cache, for later use without a network.

    Args:
        name: One of :func:`names`.

    Returns:
        Its files; none for a set that is embedded or generated.

    Raises:
        UnknownNameError: If there is no such name.
        DataError: If the download fails or brings something else.
    """
    if name not in ENTRIES:
        raise UnknownNameError("data set", name, ENTRIES)
    get = ENTRIES[name].fetch
    return get() if get else ()
