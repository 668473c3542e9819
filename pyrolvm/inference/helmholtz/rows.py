"""Rows of zeros and ones to train on, to choose with and to test on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyrolvm.core.checkpoint import tensor_digest
from pyrolvm.core.errors import DataError
from pyrolvm.datasets import load

HELD_OUT = 0.1
"""Share of the training rows that validates where a data set has no such part."""
SPLIT_SEED = 0
GREY_LEVEL = 0.5
"""Grey images in [0, 1] become ones from here on."""


@dataclass(frozen=True, eq=False)
class BinaryRows:
    """A data set as the study reads it.

    Args:
        name: How the catalogue calls it.
        train: Zeros and ones, shape ``(N, D)``, float32.
        valid: The same for the choice of learning rates and for early stopping, shuffled.
        test: The same for all figures.
        source: Where the rows come from, and what was done to them.
        image_shape: Height and width where a row is an image.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    source: str
    image_shape: tuple[int, ...] | None = None

    @property
    def digest(self) -> str:
        """Hash of all rows."""
        return tensor_digest({"train": self.train, "valid": self.valid, "test": self.test}.items())


def binary_rows(name: str, test_rows: int | None = None) -> BinaryRows:
    """Load a data set of zeros and ones, or binarise one of grey images.

    Args:
        name: A name of the catalogue, or the path of a file.
        test_rows: Rows to test on, at most; all where it is None. A part is drawn at random, once
            and for all: some sets are sorted.

    Raises:
        UnknownNameError: If there is no such data set.
        DataError: If it is neither binary nor grey, or has no rows held out.
    """
    dataset = load(name)
    if dataset.test is None:
        raise DataError(f"The study needs rows held out, but {name!r} has no test rows.")
    grey = dataset.kind != "binary"
    if grey and bool(((dataset.train < 0) | (dataset.train > 1)).any()):
        low, high = dataset.train.min().item(), dataset.train.max().item()
        raise DataError(
            f"The study needs zeros and ones, or grey values in [0, 1], but {name!r} holds values "
            f"in [{low:.3g}, {high:.3g}]. The command pyrolvm data list shows which sets are "
            "binary."
        )
    shuffle = torch.Generator().manual_seed(SPLIT_SEED)
    parts = [dataset.train, dataset.valid, dataset.test]
    train, valid, test = (
        part if part is None or not grey else (part >= GREY_LEVEL).float() for part in parts
    )
    assert train is not None
    assert test is not None
    if valid is None:
        order = torch.randperm(len(train), generator=shuffle)
        size = max(1, round(HELD_OUT * len(train)))
        train, valid = train[order[size:]], train[order[:size]]
    else:
        valid = valid[torch.randperm(len(valid), generator=shuffle)]
    if test_rows is not None and test_rows < len(test):
        test = test[torch.randperm(len(test), generator=shuffle)[:test_rows]]
    source = f"{dataset.source}{', binarised at half of the grey range' if grey else ''}"
    return BinaryRows(dataset.name, train, valid, test, source, dataset.image_shape)
