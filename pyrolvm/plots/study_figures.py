"""The figures that a study asks for, from its table.

A study file names each in a block ``[[figure]]``: its ``kind``, the columns of its axes, and with
``where`` the rows that it shows. Kinds:

- ``sweep``: means against a setting (``x``, ``y``, and the other keys of
  :class:`pyrolvm.plots.sweep.SweepAxes`);
- ``strips``: every run as a dot, with medians (``x``, ``row``, ``panel``, and ``also``: further
  columns of its table);
- ``gaps-by-modes``: the gap of every datum against the modes of its exact posterior;
- ``encoder-budget`` and ``folding``.

A study that names none gets an encoder budget where its table has one to show. Besides the columns
of the table there are those of :data:`pyrolvm.plots.study_rows.DERIVED`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.plots.encoder_budget import NEEDED, encoder_budget, with_parameters
from pyrolvm.plots.gaps_by_modes import gaps_by_modes, of_guides
from pyrolvm.plots.strips import strips
from pyrolvm.plots.study_rows import (
    DERIVED,
    STRIP_COLUMNS,
    rows_of,
    strip_columns,
    with_covered_modes,
)
from pyrolvm.plots.sweep import SweepAxes, sweep, sweep_axes
from pyrolvm.plots.theme import WIDE, ThemeName

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = {
    "name": "encoder_budget",
    "kind": "encoder-budget",
    "title": "How far each guide is from the posterior, and what a larger encoder would buy",
}
COMMON_KEYS = ("name", "kind", "title", "where")
SWEEP_KEYS = tuple(field.name for field in dataclasses.fields(SweepAxes))
OWN_KEYS = {"sweep": SWEEP_KEYS, "strips": (*STRIP_COLUMNS, "also")}
"""Keys that a kind has besides those of all kinds."""
FOLDING = SweepAxes(
    x="guide.num_components",
    y="approximation_gap",
    line="doublings",
    panel="model",
    reference="theory",
)


def study_figures(
    frame: pd.DataFrame,
    wanted: Sequence[Mapping[str, Any]],
    theme: ThemeName = "light",
    *,
    width: float = WIDE,
    per_datum: pd.DataFrame | None = None,
) -> dict[str, Figure]:
    """Draw what a study asks for; a figure without any rows yet is left out.

    Args:
        frame: The table of the study.
        wanted: Its blocks ``[[figure]]``; where there are none, :func:`default_figures`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
        per_datum: Figures of every scored row, :meth:`pyrolvm.studies.StudyResult.per_datum`;
            figures that show them are left out without.

    Returns:
        Figures by name.

    Raises:
        SettingError: If a block is no figure.
        UnknownNameError: If it has an unknown key or kind, or the table lacks a column.
    """
    return {
        block["name"]: _KINDS[block["kind"]](rows, block, theme, width)
        for block, rows in shown_blocks(frame, wanted, per_datum)
    }


def shown_blocks(
    frame: pd.DataFrame,
    wanted: Sequence[Mapping[str, Any]],
    per_datum: pd.DataFrame | None = None,
) -> list[tuple[Mapping[str, Any], pd.DataFrame]]:
    """The blocks that have rows to show, each with its rows; an empty table shows nothing.

    Args:
        frame: The table of the study.
        wanted: Its blocks ``[[figure]]``; where there are none, :func:`default_figures`.
        per_datum: See :func:`study_figures`.
    """
    check_figures(wanted)
    if frame.empty:
        return []
    blocks = wanted or default_figures(frame)
    pairs = [(block, _rows(frame, block, per_datum)) for block in blocks]
    return [(block, rows) for block, rows in pairs if not rows.empty]


def _rows(
    frame: pd.DataFrame, block: Mapping[str, Any], per_datum: pd.DataFrame | None
) -> pd.DataFrame:
    """What a figure shows: cells, or their data."""
    rows = rows_of(frame, block)
    if block["kind"] != "gaps-by-modes":
        return rows
    return rows.iloc[:0] if per_datum is None else of_guides(rows, per_datum)


def default_figures(frame: pd.DataFrame) -> tuple[Mapping[str, Any], ...]:
    """What a study that names no figure gets: an encoder budget, if any guide has parameters."""
    if any(name not in frame.columns for name in NEEDED) or with_parameters(frame).empty:
        return ()
    return (DEFAULT,)


def check_figures(
    wanted: Sequence[Mapping[str, Any]], columns: Collection[str] | None = None
) -> None:
    """Refuse blocks that are no figures, before anything runs.

    Args:
        wanted: Blocks ``[[figure]]`` of a study.
        columns: Columns that its table will have; None where they are not known.

    Raises:
        SettingError: If a name or the axes of a sweep are missing.
        UnknownNameError: If there is an unknown key or kind.
    """
    for block in wanted:
        kind = block.get("kind", "")
        if kind not in _KINDS:
            raise UnknownNameError("kind of figure", str(kind), _KINDS)
        known = (*COMMON_KEYS, *OWN_KEYS.get(kind, ()))
        for key in block:
            if key not in known:
                raise UnknownNameError(f"key of a figure of the kind {kind!r}", key, known)
        needed = ("name", "x", "y") if kind == "sweep" else ("name",)
        missing = [key for key in needed if key not in block]
        if missing:
            raise SettingError(
                f"A figure of the kind {kind!r} needs {', '.join(needed)}, but "
                f"{', '.join(missing)} is missing: {dict(block)}."
            )
        for name in (*_columns(block), *block.get("where", {})):
            if columns is not None and name not in (*columns, *DERIVED):
                raise UnknownNameError(f"column in the figure {block['name']!r}", name, columns)


def _columns(block: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns that a figure needs, apart from those that its kind always needs."""
    if block["kind"] == "sweep":
        return sweep_axes(block).columns
    if block["kind"] == "strips":
        return (*strip_columns(block).values(), *block.get("also", ()))
    return ()


def figure_title(block: Mapping[str, Any]) -> str:
    """Title of a figure: its own, or its name in words.

    >>> figure_title({"name": "share_of_data_right"})
    'Share of data right'
    """
    words = str(block["name"]).replace("_", " ")
    return str(block.get("title", words[:1].upper() + words[1:]))


def _budget(frame: pd.DataFrame, block: Mapping[str, Any], theme: ThemeName, w: float) -> Figure:
    return encoder_budget(frame, theme, width=w)


def _sweep(frame: pd.DataFrame, block: Mapping[str, Any], theme: ThemeName, w: float) -> Figure:
    return sweep(frame, sweep_axes(block), theme, width=w)


def _strips(frame: pd.DataFrame, block: Mapping[str, Any], theme: ThemeName, w: float) -> Figure:
    return strips(frame, **strip_columns(block), theme=theme, width=w)


def _modes(frame: pd.DataFrame, block: Mapping[str, Any], theme: ThemeName, w: float) -> Figure:
    return gaps_by_modes(frame, theme, width=w)


def _folding(frame: pd.DataFrame, block: Mapping[str, Any], theme: ThemeName, w: float) -> Figure:
    return sweep(with_covered_modes(frame), FOLDING, theme, width=w)


_KINDS: dict[str, Callable[[Any, Mapping[str, Any], ThemeName, float], Figure]] = {
    "encoder-budget": _budget,
    "sweep": _sweep,
    "folding": _folding,
    "strips": _strips,
    "gaps-by-modes": _modes,
}
