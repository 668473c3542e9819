"""Where the parts of a study were written, so that a refusal can name the line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyrolvm.core import PyroLVMError
from pyrolvm.studies.key_lines import Entry, Path, line_of


@dataclass(frozen=True)
class Source:
    """A study file with the lines of its keys; empty for a study written in Python.

    Args:
        name: Name of the file.
        lines: Line by path.
        blocks: For each block of the grid, the parts of the file that its keys can come from, the
            one that counts first.
    """

    name: str = ""
    lines: Mapping[Path, Entry] = field(default_factory=dict)
    blocks: tuple[tuple[Path, ...], ...] = ()

    def place(self, block: int, key: str, inside: str | None = None, value: str = "") -> str:
        """Say where something stands: ``"study.toml, line 7"``; no line where it is not found.

        Args:
            block: Number of the block.
            key: Its key.
            inside: A key of a table that is the value, or one of the values, of ``key``.
            value: What stands there, to tell several from each other.
        """
        parts = self.blocks[block] if block < len(self.blocks) else ()
        looked_for = [(inside, value)] if inside or value else []
        for part in parts:
            if (*part, key) not in self.lines:
                continue
            for name, text in looked_for:
                line = line_of(self.lines, (*part, key), name, text)
                if line is not None:
                    return self.at(line)
            return self.at(self.lines[*part, key].line)
        return self.name

    def at(self, line: int) -> str:
        """Say which line of the file."""
        return f"{self.name}, line {line}"


def located(error: PyroLVMError, place: str) -> PyroLVMError:
    """Put the place of a mistake in front of an error's message.

    Args:
        error: What was raised.
        place: From :meth:`Source.place`; nothing is changed where it is empty.
    """
    if place:
        error.args = (f"{place}: {error}",)
    return error
