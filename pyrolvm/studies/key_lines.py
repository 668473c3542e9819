"""On which line of a TOML file a key stands; ``tomllib`` reads values without lines.

The text is known to be valid, so that it only has to be walked, not judged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


@dataclass(frozen=True)
class Entry:
    """A key, or an entry of an array.

    Args:
        line: Its line, from 1.
        text: Its value as it is written; empty for the header of a table.
    """

    line: int
    text: str


def key_lines(text: str) -> dict[Path, Entry]:
    """Lines of all keys, those in inline tables and in arrays of many lines too.

    Args:
        text: A valid TOML document.

    Returns:
        Entries by path; a number in a path counts the entries of an array.

    >>> key_lines('[[grid]]' + chr(10) + 'guide = [{name = "a"}, {hiden = [8]}]')[
    ...     ("grid", 0, "guide", 1, "hiden")]
    Entry(line=2, text='[8]')
    """
    walk = _Walk(text)
    walk.document()
    return walk.entries


def line_of(
    entries: Mapping[Path, Entry], within: Path, key: str | None, value: str = ""
) -> int | None:
    """Line of a key somewhere inside a part of the document, None where it is not there.

    Args:
        entries: From :func:`key_lines`.
        within: The path of the part.
        key: The key; None for the entries of arrays and every key.
        value: Of several places the first whose text contains this counts; without a key it must.
    """
    inside = [
        (path, entry)
        for path, entry in entries.items()
        if path[: len(within)] == within and key in (None, path[-1])
    ]
    found = [entry.line for _, entry in inside if value and value in entry.text]
    if key is None:
        return found[0] if found else None  # what is inside comes before what it is in
    return next(iter(found), inside[0][1].line if inside else None)


@dataclass
class _Walk:
    text: str
    entries: dict[Path, Entry] = field(default_factory=dict)
    position: int = 0
    _tables: dict[Path, int] = field(default_factory=dict)

    def document(self) -> None:
        table: Path = ()
        self._blank()
        while self.position < len(self.text):
            if self.text.startswith("[[", self.position):
                table = self._header(2)
            elif self.text[self.position] == "[":
                table = self._header(1)
            else:
                self._pair(table)
            self._blank()

    def _header(self, brackets: int) -> Path:
        self.position += brackets
        line = self._line()
        keys = self._keys()
        self._blank()
        self.position += brackets
        path = self._entered(keys[:-1])
        if brackets == 2:
            full = (*path, keys[-1])
            self._tables[full] = self._tables.get(full, -1) + 1
        path = self._entered(keys)
        self.entries.setdefault(path, Entry(line, ""))
        return path

    def _entered(self, keys: list[str]) -> Path:
        """Path of a table, with the latest entry of every array of tables on the way."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._tables:
                path = (*path, self._tables[path])
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path: Path = (*table, *self._keys())
        self._blank()
        self.position += 1  # the equals sign
        self._value(path, line)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._blank()
            found = _STRING.match(self.text, self.position) or _BARE.match(
                self.text, self.position
            )
            assert found
            self.position = found.end()
            keys.append(found.group().strip("\"'"))
            self._blank()
            if not self.text.startswith(".", self.position):
                return keys
            self.position += 1

    def _value(self, path: Path, line: int | None = None) -> None:
        self._blank()
        start, line = self.position, line or self._line()
        opening = self.text[start]
        if opening in "[{":
            self._sequence(path, opening == "{")
        else:
            found = _STRING.match(self.text, start) or _SCALAR.match(self.text, start)
            assert found
            self.position = found.end()
        self.entries.setdefault(path, Entry(line, self.text[start : self.position]))

    def _sequence(self, path: Path, is_table: bool) -> None:
        self.position += 1
        number = 0
        self._blank()
        while self.text[self.position] not in "]}":
            if is_table:
                self._pair(path)
            else:
                self._value((*path, number))
            number += 1
            self._blank()
            if self.text[self.position] == ",":
                self.position += 1
                self._blank()
        self.position += 1

    def _line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1

    def _blank(self) -> None:
        found = _BLANK.match(self.text, self.position)
        assert found
        self.position = found.end()
