"""Read a study file: its name, its blocks, its sizes, and on which line everything stands."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrolvm.core import PyroLVMError, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.studies import key_lines
from pyrolvm.studies.settings import SETTINGS, check_keys
from pyrolvm.studies.source import Source, located

DEFAULT_SIZE = "default"
TOP_KEYS = ("name", "description", "notes", "common", "grid", "figure", "sizes")


@dataclass(frozen=True)
class StudyFile:
    """What a study file says in one of its sizes.

    Args:
        name: Of the study.
        description: One or two sentences.
        blocks: The grid, with the keys of ``[common]`` and of the size in every block.
        source: Where each part stands.
        figures: Blocks ``[[figure]]``, which :mod:`pyrolvm.plots.study_figures` draws.
        notes: How to read the figures, a sentence or two each.
    """

    name: str
    description: str
    blocks: tuple[dict[str, Any], ...]
    source: Source
    figures: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def read_study_file(path: Path, size: str = DEFAULT_SIZE) -> StudyFile:
    """Read a study file.

    Args:
        path: The file.
        size: One of its ``[sizes.<name>]``, whose keys count before those of the blocks, or whose
            own ``[[sizes.<name>.grid]]`` stands in their place. ``"default"`` need not be there.

    Raises:
        SettingError: If the file cannot be read, or is no study.
        UnknownNameError: If it has a key that studies do not have, with the line; or not the size.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"The study file {path} cannot be read: {error}.") from error
    lines = key_lines.key_lines(text)
    source = Source(path.name, lines)
    for key in document:
        if key not in TOP_KEYS:
            raise located(_unknown_top_key(key), _at(source, (key,)))
    sizes = _sizes(document, source)
    if size != DEFAULT_SIZE and size not in sizes:
        raise located(UnknownNameError("size", size, {DEFAULT_SIZE, *sizes}), path.name)
    changes = dict(sizes.get(size, {}))
    own_grid = "grid" in changes
    grid = changes.pop("grid", document.get("grid"))
    if not _is_grid(grid):
        raise SettingError(f"{path} has no blocks: a study has at least one [[grid]].")
    common = document.get("common", {})
    blocks = tuple({**common, **block, **changes} for block in grid)
    place = ("sizes", size, "grid") if own_grid else ("grid",)
    parts = tuple((("sizes", size), (*place, n), ("common",)) for n in range(len(grid)))
    if own_grid:
        parts = tuple(((*place, n), ("sizes", size), ("common",)) for n in range(len(grid)))
    _check_blocks(grid, place, source)
    name = document.get("name", path.stem)
    return StudyFile(
        str(name),
        str(document.get("description", "")),
        blocks,
        Source(path.name, lines, parts),
        tuple(dict(figure) for figure in _list(document, "figure", Mapping, path)),
        tuple(_list(document, "notes", str, path)),
    )


def _list(document: Mapping[str, Any], key: str, kind: type, path: Path) -> list[Any]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
        wanted = "a list of texts" if kind is str else f"blocks [[{key}]]"
        raise SettingError(f"{path.name}: {key} should be {wanted}, but it is {found!r}.")
    return found


def _sizes(document: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """The sizes, after the keys of ``[common]`` and of all sizes were checked."""
    found = document.get("sizes", {})
    tables: dict[tuple[str, ...], Any] = {("common",): document.get("common", {})}
    tables |= {("sizes", name): table for name, table in found.items()}
    for path, table in tables.items():
        if not isinstance(table, Mapping):
            raise SettingError(f"{source.name}: {'.'.join(path)} should be a table of keys.")
        for key in table:
            if key != "grid" or path[0] != "sizes":
                _check_key(key, (*path, key), f"[{'.'.join(path)}]", source)
    return dict(found)


def _check_blocks(grid: Any, place: tuple[str, ...], source: Source) -> None:
    for number, block in enumerate(grid):
        for key in block:
            _check_key(key, (*place, number, key), f"[[{'.'.join(place)}]]", source)


def _check_key(key: str, path: key_lines.Path, where: str, source: Source) -> None:
    try:
        check_keys({key: None}, where)
    except PyroLVMError as error:
        raise located(error, _at(source, path)) from None


def _unknown_top_key(key: str) -> PyroLVMError:
    if key in SETTINGS:
        return SettingError(
            f"{key} is a key of a cell: put it under [[grid]], or under [common] for all blocks."
        )
    return UnknownNameError("key of a study", key, TOP_KEYS)


def _at(source: Source, path: key_lines.Path) -> str:
    entry = source.lines.get(path)
    return source.name if entry is None else source.at(entry.line)


def _is_grid(grid: Any) -> bool:
    return isinstance(grid, list) and bool(grid) and all(isinstance(b, Mapping) for b in grid)
