"""Every cell of a study as a dot: a row for each way of doing it, a panel for each problem.

Means hide runs that end elsewhere; here each run is seen, and the bar marks the median.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.plots.column_words import axis_label, value_label
from pyrolvm.plots.small_multiples import draw_legend, legend_rows, plain_ticks
from pyrolvm.plots.sweep import ordered_values, rows_with
from pyrolvm.plots.theme import SMALL, WIDE, Theme, ThemeName, dress, figure_style, theme_named

if TYPE_CHECKING:
    import pandas as pd

ROW, FRAME = 0.24, 0.7
"""Heights of a row of dots, and of title and axis of a panel, inches."""
LEAST_PANEL, MOST_PANEL = 1.9, 3.6
LETTER = 0.068
"""Width of a letter of a row's name, inches."""
FAR_OUT = 3.0
"""Interquartile ranges above the upper quartile from which a run is drawn at the edge."""
SPREAD = 0.16
"""Half the height, in rows, over which dots of one row are spread."""


def strips(
    frame: pd.DataFrame,
    x: str,
    row: str,
    panel: str,
    theme: ThemeName = "light",
    *,
    width: float = WIDE,
) -> Figure:
    """Draw every run, and the median of each row.

    A run whose figure is far out, or is not known because it is not finite, stands at the right
    edge as a triangle.

    Args:
        frame: One row a cell.
        x: Column of the figure.
        row: Column with one row of dots for each value.
        panel: Column with one panel for each value.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        UnknownNameError: If the table lacks a column.
    """
    for name in (x, row, panel):
        if name not in frame.columns:
            raise UnknownNameError("column of the study's table", name, frame.columns)
    look = theme_named(theme)
    names, panels = ordered_values(frame, row), ordered_values(frame, panel)
    with figure_style(look):
        figure, places = _grid(len(panels), len(names), max(map(len, names)), width)
        for place, which in zip(places, panels, strict=True):
            part = rows_with(frame, panel, which)
            _draw(place, [rows_with(part, row, name)[x].to_numpy() for name in names], look)
            place.set_title(value_label(panel, which), loc="left", fontsize=SMALL + 1)
            place.set_yticks(range(len(names)), names)
            place.set_ylim(len(names) - 0.5, -0.5)
            place.tick_params(axis="y", length=0)
            place.xaxis.set_major_locator(MaxNLocator(4))
            plain_ticks(place.xaxis)
        figure.supxlabel(axis_label(x), fontsize=SMALL + 1)
        handles = _legend(look)
        draw_legend(figure, handles, legend_rows(handles, figure.get_figwidth()))
    return figure


def edge_of(values: NDArray[np.float64]) -> float:
    """From where on a value is far out: three interquartile ranges above the upper quartile.

    >>> edge_of(np.array([1.0, 2.0, 3.0, 1000.0])) < 1000.0
    True
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return np.inf
    low, high = np.quantile(known, [0.25, 0.75], method="lower")
    return float(high + FAR_OUT * (high - low)) if high > low else np.inf


def _grid(number: int, rows: int, letters: int, width: float) -> tuple[Figure, list[Axes]]:
    """Panels side by side; only the leftmost ones name their rows, which takes room."""
    names = LETTER * letters
    columns = max(1, min(number, int((width - names) / LEAST_PANEL)))
    lines = -(-number // columns)
    size = (min(width, names + columns * MOST_PANEL), 0.6 + lines * (FRAME + ROW * rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for spare in grid.ravel()[number:]:
        spare.set_visible(False)
    return figure, list(grid.ravel()[:number])


def _draw(place: Axes, rows: list[NDArray[np.float64]], theme: Theme) -> None:
    edge = edge_of(np.concatenate(rows))
    shown = [np.where(np.isfinite(row), row, np.inf) for row in rows]
    inside = np.concatenate([row[row <= edge] for row in shown])
    limit = 1.0 if not len(inside) else inside.max() + 0.06 * (np.ptp(inside) or 1.0)
    for height, values in enumerate(shown):
        colour = theme.palette[height % len(theme.palette)]
        near = values <= edge
        heights = height + SPREAD * np.linspace(-1, 1, len(values)) * (len(values) > 1)
        place.plot(values[near], heights[near], "o", color=colour, markersize=4, alpha=0.75)
        if not near.all():
            edge_marks = np.full((~near).sum(), limit)
            place.plot(edge_marks, heights[~near], ">", color=colour, markersize=5, clip_on=False)
        if len(values):
            middle = min(float(np.median(values)), limit)
            ends = [height - 0.36, height + 0.36]
            place.plot([middle] * 2, ends, color=theme.ink, linewidth=1.6, zorder=4)
    place.set_xlim(right=limit)
    dress(place, theme, grid="x")


def _legend(theme: Theme) -> list[Artist]:
    empty: list[float] = []
    return [
        Line2D(empty, empty, color=theme.muted, marker="o", linestyle="none", label="a run"),
        Line2D(empty, empty, color=theme.ink, marker="|", linestyle="none", markersize=9,
               markeredgewidth=1.6, label="median"),
        Line2D(empty, empty, color=theme.muted, marker=">", linestyle="none",
               label="far out, or not finite"),
    ]  # fmt: skip
