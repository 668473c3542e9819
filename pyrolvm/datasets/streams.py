"""Random numbers of data sets: the law, the rows to train on and those held out share none."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Generator

Stream: TypeAlias = Literal["law", "train", "test"]
_PLACE: dict[Stream, int] = {"law": 0, "train": 1, "test": 2}


def stream(seed: int, part: Stream) -> Generator:
    """Return the generator of one part; seeds below 2**62 share no random numbers.

    Args:
        seed: Of the data set.
        part: ``"law"`` (parameters drawn once), ``"train"`` or ``"test"``.
    """
    return Generator().manual_seed((3 * seed + _PLACE[part]) % 2**64)
