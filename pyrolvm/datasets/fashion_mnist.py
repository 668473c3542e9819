"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 × 28 pixels, fetched once and checked.

Xiao, Rasul & Vollgraf (2017), Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms; MIT licence. Debian's package ``dataset-fashion-mnist`` holds the same content
in files without the names and times of the original archives, so what counts for a file that is
already there is the checksum of its *content*: ``PYROLVM_DATA=/usr/share/datasets`` uses that
package.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.cache import VARIABLE, cache_folder
from pyrolvm.datasets.dataset import Dataset

BASE_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
FOLDER = "fashion-mnist"
NUM_PICTURES = 70_000
PICTURES_DIM = 784
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Archive:
    """One compressed file: its name, and SHA-256 as published and of the content inside."""

    name: str
    packed_sha256: str
    content_sha256: str


ARCHIVES = {
    "train": Archive(
        "train-images-idx3-ubyte.gz",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train_labels": Archive(
        "train-labels-idx1-ubyte.gz",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "test": Archive(
        "t10k-images-idx3-ubyte.gz",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "test_labels": Archive(
        "t10k-labels-idx1-ubyte.gz",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


def fashion_mnist() -> Dataset:
    """All pictures, scaled from 0..255 to [0, 1], in the published split of 60,000 and 10,000.

    Returns:
        Rows of 784 pixels, with the class, 0 to 9, as label.

    Raises:
        DataError: If a file is not there, and the download fails or brings something else.
    """
    content = {part: _content(archive) for part, archive in ARCHIVES.items()}
    return Dataset(
        name="fashion_mnist",
        train=_pictures(content["train"]),
        test=_pictures(content["test"]),
        train_labels=_labels(content["train_labels"]),
        test_labels=_labels(content["test_labels"]),
        image_shape=(28, 28),
        kind="continuous",
        source="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
    )


def fetch_fashion_mnist() -> tuple[Path, ...]:
    """Put the files into the cache; those that are there with the right content are left alone.

    Returns:
        Paths of the four files.

    Raises:
        DataError: If the download fails or brings something else.
    """
    for archive in ARCHIVES.values():
        _content(archive)
    return tuple(_path(archive) for archive in ARCHIVES.values())


def is_fetched() -> bool:
    """Whether all four files lie in the cache; their content is checked when they are read."""
    return all(_path(archive).is_file() for archive in ARCHIVES.values())


def _path(archive: Archive) -> Path:
    return cache_folder() / FOLDER / archive.name


def _content(archive: Archive) -> bytes:
    """The verified content of a file, from the cache or else from the publisher."""
    content = _unpacked(archive)
    if content is None:
        _download(archive)
        content = _unpacked(archive)
    if content is None:
        raise DataError(f"{_path(archive)} was fetched, but does not hold what it should.")
    return content


def _unpacked(archive: Archive) -> bytes | None:
    try:
        content = gzip.decompress(_path(archive).read_bytes())
    except (OSError, EOFError, zlib.error):
        return None
    return content if hashlib.sha256(content).hexdigest() == archive.content_sha256 else None


def _download(archive: Archive) -> None:
    import pooch

    path = _path(archive)
    try:
        # Pooch writes under a temporary name and renames only what has the right checksum.
        pooch.retrieve(
            BASE_URL + archive.name,
            known_hash=f"sha256:{archive.packed_sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS),
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"Fashion-MNIST needs {path.name} in {path.parent}, and fetching it from {BASE_URL} "
            f"failed: {error} Put the file there by hand, or install Debian's package "
            f"dataset-fashion-mnist and set {VARIABLE}=/usr/share/datasets."
        ) from error


def _pictures(content: bytes) -> Tensor:
    pixels = np.frombuffer(content, np.uint8, offset=16).reshape(-1, PICTURES_DIM)
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(255))


def _labels(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=8).astype(np.int64))
