"""Where the binary sets are published, and how their files are read.

Two forms: three texts, a row a line, 0 and 1 with commas or blanks between; or one ``.npz`` with
the keys ``train_data``, ``valid_data`` and ``test_data``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.files import PARTS
from pyrolvm.datasets.splits import Splits, read_splits

BLANKS = b", \t\r\n"
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Source:
    """Files of one data set at one address.

    Args:
        base_url: Where they are, with a slash at the end.
        files: Names of three texts, for train, valid and test; or of one ``.npz``.
    """

    base_url: str
    files: tuple[str, ...]

    def read(self, paths: Sequence[Path], dim: int) -> Splits:
        """Read the files from this machine.

        Args:
            paths: In the order of :attr:`files`.
            dim: Entries of a row.

        Returns:
            The rows; these files have no labels.

        Raises:
            DataError: If a file is unreadable, or holds anything but rows of 0 and 1.
        """
        if len(paths) == 1:
            return read_splits(paths[0])
        return Splits({p: read_text(path, dim) for p, path in zip(PARTS, paths, strict=True)})


def density_estimation_datasets(name: str) -> Source:
    """Texts of the repository UCLA-StarAI/Density-Estimation-Datasets."""
    repository = "https://raw.githubusercontent.com/UCLA-StarAI/Density-Estimation-Datasets/"
    files = tuple(f"{name}.{part}.data" for part in PARTS)
    return Source(f"{repository}master/datasets/{name}/", files)


def made(name: str) -> Source:
    """Archive of the repository mgermain/MADE."""
    return Source(
        "https://raw.githubusercontent.com/mgermain/MADE/master/datasets/", (f"{name}.npz",)
    )


def larochelle(name: str) -> Source:
    """Texts of the page of Hugo Larochelle at the University of Toronto."""
    files = tuple(f"{name}_{part}.amat" for part in PARTS)
    return Source(f"http://www.cs.toronto.edu/~larocheh/public/datasets/{name}/", files)


def read_text(path: Path, dim: int) -> NDArray[np.uint8]:
    """Rows of 0 and 1 from a text, whatever stands between them.

    Args:
        path: The text.
        dim: Entries of a row.

    Returns:
        Shape ``(N, dim)``.

    Raises:
        DataError: If it cannot be read, holds anything else, or not whole rows.
    """
    try:
        entries = path.read_bytes().translate(None, delete=BLANKS)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error
    if other := entries.translate(None, delete=b"01"):
        raise DataError(
            f"{path} should hold 0 and 1 only, with commas or blanks between, but also holds "
            f"{other[:20].decode(errors='replace')!r}."
        )
    if not entries or len(entries) % dim:
        raise DataError(
            f"{path} should hold rows of {dim} entries, but its {len(entries)} are no whole "
            "number of rows: the file is empty, cut off, or another."
        )
    return np.frombuffer(entries, np.uint8).reshape(-1, dim) - np.uint8(ord("0"))


def download(url: str, path: Path) -> None:
    """Fetch one file.

    Args:
        url: Its address.
        path: Where to write it.

    Raises:
        OSError: If there is no network, or the server does not give the file.
    """
    import pooch

    pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS)(url, str(path), None)
