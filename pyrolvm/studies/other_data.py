"""The blocks of a study on some of its data sets, or on data that it does not name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyrolvm.core.errors import SettingError
from pyrolvm.studies.key_lines import Path
from pyrolvm.studies.settings import SETTINGS

Blocks = tuple[dict[str, Any], ...]
Places = tuple[tuple[Path, ...], ...]
DATA = "data"


def on_data(
    grid: Sequence[Mapping[str, Any]], places: Places, wanted: Sequence[str]
) -> tuple[Blocks, Places]:
    """Blocks with other data; one whose data are not wanted is left out.

    Args:
        grid: The blocks.
        places: Where each was written; empty for a study without a file.
        wanted: Data sets. One that a block names keeps the block; one that no block names stands
            in every block.

    Returns:
        The blocks, and where they were written.

    Raises:
        SettingError: If no data are wanted, or one twice.
    """
    if not wanted or len(set(wanted)) < len(wanted) or not all(wanted):
        raise SettingError(
            "data should name one data set or several different ones, like circle,wave, but is "
            f"{','.join(wanted)!r}."
        )
    named = {each for block in grid for each in _data_of(block)}
    new = [each for each in wanted if each not in named]
    kept = {
        number: [each for each in wanted if each in _data_of(block)] + new
        for number, block in enumerate(grid)
    }
    numbers = [number for number, data in kept.items() if data]
    blocks = tuple({**grid[number], DATA: kept[number]} for number in numbers)
    return blocks, tuple(places[number] for number in numbers if number < len(places))


def _data_of(block: Mapping[str, Any]) -> list[str]:
    given = block.get(DATA, SETTINGS[DATA].default)
    return list(given) if isinstance(given, (list, tuple)) else [given]
