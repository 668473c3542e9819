"""Tables for a terminal: no number is cut, a table that is too wide goes on below."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pyrolvm.report.text_table import TextTable


def rich_table(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, whole: int = 0
) -> Any:
    """A table for the terminal.

    Args:
        title: Above it.
        headers: One a column.
        rows: Cells as text; nothing in them is read as markup.
        whole: From which column on cells stand on one line; before, words may wrap.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    for index, header in enumerate(headers):
        table.add_column(escape(header), no_wrap=0 < whole <= index)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def print_table(table: TextTable, width: int | None = None) -> None:
    """Print a table of a study.

    Args:
        table: What to print.
        width: Columns of the terminal; by default those that it has. A file or a pipe takes lines
            of any length.
    """
    from rich.console import Console

    console = Console() if width is None else Console(width=width)
    if width is None and not sys.stdout.isatty():
        shown = rich_table(table.title, table.headers, table.rows)
        console.width = _width(console, shown)
        console.print(shown)
        return
    for part in parts(table, console.width):
        shown = rich_table(part.title, part.headers, part.rows, whole=table.keys)
        console.print(shown)


def parts(table: TextTable, width: int) -> Iterator[TextTable]:
    """Cut a table into parts that fit side by side, each with the columns that name its rows.

    Args:
        table: What to cut.
        width: Columns of the terminal.
    """
    widths = [3 + max(map(len, column)) for column in zip(table.headers, *table.rows, strict=True)]
    names = min(1 + sum(widths[: table.keys]), max(width // 2, 1))
    start = table.keys
    while start < len(widths):
        stop = start + 1
        while stop < len(widths) and names + sum(widths[start : stop + 1]) <= width:
            stop += 1
        chosen = [*range(table.keys), *range(start, stop)]
        yield TextTable(
            table.title if start == table.keys else f"{table.title} (continued)",
            tuple(table.headers[index] for index in chosen),
            tuple(tuple(row[index] for index in chosen) for row in table.rows),
            table.keys,
        )
        start = stop
    if table.keys >= len(widths):
        yield table


def _width(console: Any, table: Any) -> int:
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(width=999), table).maximum
