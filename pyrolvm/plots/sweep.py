"""One figure of a sweep against another: a panel for each value, a line for each other value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.plots.column_words import SHARES, axis_label, value_label
from pyrolvm.plots.small_multiples import (
    decade_ticks,
    draw_legend,
    label_axes,
    legend_rows,
    line_handles,
    line_style,
    logarithmic_ticks,
    panel_columns,
    panel_grid,
    plain_ticks,
    ticks_at,
)
from pyrolvm.plots.theme import SMALL, WIDE, Theme, ThemeName, dress, figure_style, theme_named

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SweepAxes:
    """Which columns of a study's table make a figure.

    Args:
        x: Column along the x-axis.
        y: Column along the y-axis.
        line: Column with one line for each value; None for a single line.
        panel: Column with one panel for each value; None for a single panel.
        reference: Column with what theory says of ``y``, or with what ``y`` is to be compared to,
            drawn as crosses; None for none.
        reference_name: What the crosses are.
        threshold: Height of a dotted line, for what counts as close.
        log_x: Whether x is logarithmic.
        log_y: Whether y is logarithmic.
    """

    x: str
    y: str
    line: str | None = None
    panel: str | None = None
    reference: str | None = None
    reference_name: str = "theory"
    threshold: float | None = None
    log_x: bool = True
    log_y: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a table must have."""
        named = (self.x, self.y, self.line, self.panel, self.reference)
        return tuple(name for name in named if name is not None)


def sweep_axes(block: Mapping[str, Any]) -> SweepAxes:
    """Axes from a block ``[[figure]]`` of a study; its other keys are left alone."""
    names = [field.name for field in dataclasses.fields(SweepAxes)]
    return SweepAxes(**{name: block[name] for name in names if name in block})


def sweep(
    frame: pd.DataFrame, axes: SweepAxes, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Means over all other columns (seeds above all) with one standard error.

    Args:
        frame: One row a cell; see :class:`pyrolvm.studies.StudyResult`.
        axes: Which columns to draw.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        UnknownNameError: If the table lacks a column.
    """
    for name in axes.columns:
        if name not in frame.columns:
            raise UnknownNameError("column of the study's table", name, frame.columns)
    look = theme_named(theme)
    panels = ordered_values(frame, axes.panel)
    lines = ordered_values(frame, axes.line)
    with figure_style(look):
        handles = _legend(axes, lines, look)
        rows = legend_rows(handles, panel_columns(len(panels), width)[1])
        figure, places = panel_grid(len(panels), width, len(rows))
        for place, panel in zip(places, panels, strict=True):
            _draw_panel(place, rows_with(frame, axes.panel, panel), axes, lines, look)
            place.set_title(value_label(axes.panel, panel), loc="left", fontsize=SMALL + 1)
        label_axes(places, axis_label(axes.x), [axis_label(axes.y)] * len(places))
        draw_legend(figure, handles, rows)
    return figure


def ordered_values(frame: pd.DataFrame, column: str | None) -> list[str]:
    """Values of a column as text: numbers by size, words as they come; ``[""]`` for no column."""
    if column is None:
        return [""]
    values = frame[column].dropna().unique().tolist()
    if all(isinstance(value, (int, float)) for value in values):
        values = sorted(values)
    return [str(value) for value in values]


def rows_with(frame: pd.DataFrame, column: str | None, value: str) -> pd.DataFrame:
    """Rows that have one of :func:`ordered_values` in a column; all rows for no column."""
    return frame if column is None else frame[frame[column].astype(str) == value]


def mean_and_error(part: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Mean of a figure at each x and its standard error over the cells there.

    A single cell has the error over its data, where the table holds one.
    """
    found = part.groupby(x)[y].agg(["mean", "std", "count"]).sort_index()
    error = found["std"] / np.sqrt(found["count"])
    own = f"{y}_se"
    if own in part.columns:
        error = error.fillna(part.groupby(x)[own].mean())
    return found.assign(error=error.fillna(0.0))


def _legend(axes: SweepAxes, lines: Sequence[str], theme: Theme) -> list[Artist]:
    """One entry a line, one for what theory says, and one for the threshold."""
    names = [value_label(axes.line, line) for line in lines if axes.line]
    handles = line_handles(names, theme)
    if axes.reference is not None:
        handles.append(
            Line2D(
                [], [], color=theme.ink, marker="x", linestyle="none", label=axes.reference_name
            )
        )
    if axes.threshold is not None:
        label = f"threshold {axes.threshold:g}"
        handles.append(Line2D([], [], color=theme.muted, linestyle=":", label=label))
    return handles


def _draw_panel(
    place: Axes, part: pd.DataFrame, axes: SweepAxes, lines: Sequence[str], theme: Theme
) -> None:
    part = part.dropna(subset=[axes.x, axes.y])
    for index, name in enumerate(lines):
        rows = rows_with(part, axes.line, name)
        if rows.empty:
            continue
        found = mean_and_error(rows, axes.x, axes.y)
        place.errorbar(
            found.index, found["mean"], found["error"], capsize=2, elinewidth=0.8,
            **line_style(index, theme),  # type: ignore[arg-type]
        )  # fmt: skip
        if axes.reference is not None:
            truth = rows.groupby(axes.x)[axes.reference].mean()
            place.plot(truth.index, truth, "x", color=theme.ink, markersize=6, zorder=5)
    if axes.threshold is not None:
        place.axhline(axes.threshold, color=theme.muted, linewidth=0.8, linestyle=":")
    _scale(place, part, axes)
    dress(place, theme, grid="y")


def _scale(place: Axes, part: pd.DataFrame, axes: SweepAxes) -> None:
    if axes.log_x:
        values = part[axes.x].tolist()
        positive = [value for value in values if value > 0]
        if len(positive) < len(values):  # no hidden layer has width 0
            place.set_xscale("symlog", linthresh=min(positive, default=1), linscale=0.5)
        else:
            place.set_xscale("log")
        ticks_at(place.xaxis, [*{v for v in values if v <= 0}, *logarithmic_ticks(positive)])
    if axes.log_y:
        place.set_yscale("log")
        ticks_at(place.yaxis, decade_ticks(*place.get_ylim()))
    elif axes.y in SHARES:
        place.set_ylim(-0.03, 1.05)
    plain_ticks(place.xaxis)
    plain_ticks(place.yaxis)
