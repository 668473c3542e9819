"""Some classes of a data set with labels: ``digits:0-4``, ``digits:1+7``."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import torch

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.dataset import Dataset

SEPARATOR = ":"
_PART = re.compile(r"(\d+)(?:-(\d+))?")


def parsed_classes(text: str) -> tuple[int, ...]:
    """Classes of a text such as ``"0-4"``, ``"7"`` or ``"1+7"``.

    Args:
        text: Numbers and ranges, both ends included, joined by ``+``.

    Returns:
        The classes, sorted.

    Raises:
        DataError: If it says something else.

    Examples:
        >>> parsed_classes("0-2+7")
        (0, 1, 2, 7)
    """
    found: set[int] = set()
    for part in text.split("+"):
        match = _PART.fullmatch(part)
        classes = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not classes:
            raise DataError(
                f"Classes are written like 0-4, 7 or 1+7 (no spaces), but {text!r} came."
            )
        found.update(classes)
    return tuple(sorted(found))


def only_classes(dataset: Dataset, text: str) -> Dataset:
    """Rows of some classes, each in the part where it was.

    Args:
        dataset: A data set with labels.
        text: The classes; see :func:`parsed_classes`.

    Returns:
        The smaller data set, called ``"<name>:<text>"``.

    Raises:
        DataError: If there are no labels, or no rows of one of these classes.
    """
    wanted = parsed_classes(text)
    if dataset.train_labels is None:
        raise DataError(f"{dataset.name!r} has no classes to choose from, but {text!r} asks some.")
    known = dataset.train_labels.unique().tolist()
    strange = [each for each in wanted if each not in known]
    if strange:
        raise DataError(f"{dataset.name!r} has the classes {known}, but {strange} were asked.")
    chosen: dict[str, Any] = {}
    for part, (rows, labels) in dataset.parts.items():
        kept = None if labels is None else torch.isin(labels, torch.tensor(wanted))
        chosen[part] = None if rows is None or kept is None else rows[kept]
        chosen[f"{part}_labels"] = None if labels is None else labels[kept]
    return dataclasses.replace(
        dataset,
        name=f"{dataset.name}{SEPARATOR}{text}",
        **chosen,
    )
