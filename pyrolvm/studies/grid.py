"""From the blocks of a study to single configurations: a list is an axis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from pyrolvm.core.errors import SettingError


def expand(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All combinations of a block: the product over its keys, the last one runs fastest.

    Every value may be a list, which is an axis; so may every value of a table inside. A list that
    is itself meant as a value stands in double brackets.

    Args:
        block: Keys with values, lists or tables.

    Yields:
        Mappings without axes.

    Raises:
        SettingError: If an axis has no values.

    >>> list(expand({"guide": [{"name": "full", "hidden": [[8], [64]]}, "exact"]}))
    [{'guide': {'name': 'full', 'hidden': [8]}}, {'guide': {'name': 'full', 'hidden': [64]}}, \
{'guide': 'exact'}]
    """
    axes = [_values(key, value) for key, value in block.items()]
    for combination in itertools.product(*axes):
        yield dict(zip(block, combination, strict=True))


def _values(key: str, value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(expand(value))
    if not isinstance(value, (list, tuple)):
        return [value]
    if not value:
        raise SettingError(
            f"{key} is an empty list, an axis without values; an empty list that is meant as a "
            f"value is written {key} = [[]]."
        )
    found: list[Any] = []
    for each in value:
        literal = isinstance(each, (list, tuple))
        found += [list(each)] if literal else _values(key, each)
    return found
