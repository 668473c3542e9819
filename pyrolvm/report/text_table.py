"""A table as text, ready for the terminal and for a page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """A table, ready to be printed.

    Args:
        title: What it shows, with its unit.
        headers: One a column.
        rows: Cells as text.
        keys: How many of the first columns say what a row is; the others hold its numbers.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int = 2
