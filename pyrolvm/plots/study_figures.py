"""The figures that a study asks for, from its table.

A study file names each in a block ``[[figure]]``: its ``kind``, for a sweep the columns of its
axes, and with ``where`` the rows that it shows. A study that names none gets an encoder budget
where its table has one to show.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.plots.encoder_budget import NEEDED, encoder_budget, with_parameters
from pyrolvm.plots.sweep import SweepAxes, sweep, sweep_axes
from pyrolvm.plots.theme import WIDE, ThemeName
from pyrolvm.studies.labels import labels

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = {
    "name": "encoder_budget",
    "kind": "encoder-budget",
    "title": "How far each guide is from the posterior, and what a larger encoder would buy",
}
COMMON_KEYS = ("name", "kind", "title", "where")
SWEEP_KEYS = tuple(field.name for field in dataclasses.fields(SweepAxes))
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
) -> dict[str, Figure]:
    """Draw what a study asks for; a figure without any rows yet is left out.

    Args:
        frame: The table of the study.
        wanted: Its blocks ``[[figure]]``; where there are none, :func:`default_figures`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        Figures by name.

    Raises:
        SettingError: If a block is no figure.
        UnknownNameError: If it has an unknown key or kind, or the table lacks a column.
    """
    return {
        block["name"]: _KINDS[block["kind"]](rows, block, theme, width)
        for block, rows in shown_blocks(frame, wanted)
    }


def shown_blocks(
    frame: pd.DataFrame, wanted: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], pd.DataFrame]]:
    """The blocks that have rows to show, each with its rows; an empty table shows nothing.

    Args:
        frame: The table of the study.
        wanted: Its blocks ``[[figure]]``; where there are none, :func:`default_figures`.
    """
    check_figures(wanted)
    if frame.empty:
        return []
    blocks = wanted or default_figures(frame)
    pairs = [(block, rows_of(frame, block)) for block in blocks]
    return [(block, rows) for block, rows in pairs if not rows.empty]


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
        known = (*COMMON_KEYS, *SWEEP_KEYS) if kind == "sweep" else COMMON_KEYS
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
        axes = sweep_axes(block).columns if kind == "sweep" else ()
        for name in (*axes, *block.get("where", {})):
            if columns is not None and name not in (*columns, "generator", "family"):
                raise UnknownNameError(f"column in the figure {block['name']!r}", name, columns)


def rows_of(frame: pd.DataFrame, block: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of a study's table that a figure shows: those that meet all of its ``where``.

    They get the columns ``generator`` and ``family``, short names of model and guide. An encoder
    budget shows guides with parameters only.

    Raises:
        UnknownNameError: If the table lacks a column.
    """
    for column, wanted in block.get("where", {}).items():
        if column not in frame.columns:
            raise UnknownNameError("column of the study's table", column, frame.columns)
        values = wanted if isinstance(wanted, list) else [wanted]
        frame = frame[frame[column].isin(values)]
    if block["kind"] == "encoder-budget":
        frame = with_parameters(frame)
    return frame.assign(generator=labels(frame, "model"), family=labels(frame, "guide"))


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


def _folding(frame: pd.DataFrame, block: Mapping[str, Any], theme: ThemeName, w: float) -> Figure:
    return sweep(with_covered_modes(frame), FOLDING, theme, width=w)


def with_covered_modes(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Add what covering C of 2^k equal modes costs, :math:`\max(0, \log(2^k / C))` nats.

    Args:
        frame: The table of a study of folding generators and their injective control.

    Returns:
        The table with the columns ``theory`` and ``doublings``, the logarithm of the slope.
    """
    import pandas as pd

    unknown = pd.Series(np.nan, index=frame.index)
    folds = frame.get("model.num_folds", unknown)
    doublings = folds.fillna(frame.get("model.num_doublings", unknown))
    folded = frame["model"].eq("folding") * doublings
    floor = np.maximum(0.0, np.log(2.0**folded / frame["guide.num_components"]))
    return frame.assign(theory=floor, doublings=doublings)


_KINDS: dict[str, Callable[[Any, Mapping[str, Any], ThemeName, float], Figure]] = {
    "encoder-budget": _budget,
    "sweep": _sweep,
    "folding": _folding,
}
