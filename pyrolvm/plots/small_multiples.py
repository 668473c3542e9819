"""Panels of one figure side by side, the legend above them, and the ticks of their axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from pyrolvm.plots.column_words import beside_panel
from pyrolvm.plots.theme import DASHES, Theme

PANEL_HEIGHT = 2.35
LEAST_PANEL_WIDTH = 2.9
MOST_PANEL_WIDTH = 6.4
LEGEND_LINE = 0.2
"""Height of a line of the legend, inches."""
LETTER, HANDLE = 0.062, 0.58
"""Widths in a legend, inches: of a letter, and of a handle with its margins."""
MARKERS = "osD^vPX*"
MOST_TICKS = 7
NEAREST_TICKS = 0.075
"""Least distance of two ticks, as a share of the axis."""


def panel_columns(number: int, width: float) -> tuple[int, float]:
    """How many of so many panels stand side by side, and how wide their figure is, inches.

    A single panel does not take more than it needs.
    """
    columns = max(1, min(number, int(width / LEAST_PANEL_WIDTH)))
    return columns, min(width, columns * MOST_PANEL_WIDTH)


def panel_grid(number: int, width: float, legend_lines: int = 1) -> tuple[Figure, list[Axes]]:
    """Make a figure with so many panels, as many in a row as there is room for.

    Args:
        number: Panels.
        width: Inches at most.
        legend_lines: Lines that the legend takes.
    """
    columns, width = panel_columns(number, width)
    rows = math.ceil(number / columns)
    height = 0.4 + LEGEND_LINE * legend_lines + PANEL_HEIGHT * rows
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for spare in grid.ravel()[number:]:
        spare.set_visible(False)
    return figure, list(grid.ravel()[:number])


def legend_rows(handles: Sequence[Artist], width: float) -> list[list[int]]:
    """Break a legend into lines that fit.

    Args:
        handles: Its entries.
        width: Of the figure, inches.

    Returns:
        Which entries stand on each line; all lines but the last have as many.
    """
    labels = [str(handle.get_label()) for handle in handles]
    columns = len(labels)
    while columns > 1 and _legend_width(labels, columns) > width - 0.3:
        columns -= 1
    indices = list(range(len(labels)))
    return [indices[at : at + columns] for at in range(0, len(labels), max(columns, 1))]


def _legend_width(labels: Sequence[str], columns: int) -> float:
    """Width of a legend whose columns are as wide as their longest entries."""
    longest = [max(map(len, labels[at::columns])) for at in range(columns)]
    return sum(HANDLE + LETTER * letters for letters in longest)


def draw_legend(figure: Figure, handles: Sequence[Artist], rows: Sequence[Sequence[int]]) -> None:
    """Draw a legend above the panels that is read line by line."""
    columns = max(map(len, rows), default=0)
    if not columns:
        return
    order = [row[at] for at in range(columns) for row in rows if at < len(row)]
    figure.legend(
        handles=[handles[index] for index in order],
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.4,
    )


def label_axes(places: Sequence[Axes], x_label: str, y_labels: Sequence[str]) -> None:
    """Label the x-axes of the lowest panels, and y-axes where they are leftmost or change."""
    for index, place in enumerate(places):
        spec = place.get_subplotspec()
        assert spec is not None
        columns = spec.get_gridspec().ncols
        if spec.is_first_col() or y_labels[index] != y_labels[index - 1]:
            place.set_ylabel(beside_panel(y_labels[index]))
        if index + columns >= len(places):
            place.set_xlabel(x_label)


def line_style(index: int, theme: Theme) -> dict[str, object]:
    """Colour, dash and marker of a line, the same in every panel."""
    return {
        "color": theme.palette[index % len(theme.palette)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def line_handles(lines: Sequence[str], theme: Theme) -> list[Artist]:
    """One entry of the legend for each line."""
    return [Line2D([], [], label=n, **line_style(i, theme)) for i, n in enumerate(lines)]  # type: ignore[arg-type]


def plain_ticks(axis: Axis) -> None:
    """Write the ticks of an axis as plain numbers, also where it is logarithmic."""
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}".replace("-", "−"))
    axis.set_minor_formatter(NullFormatter())


def ticks_at(axis: Axis, values: Sequence[float]) -> None:
    """Put ticks at these values and nowhere between."""
    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_minor_locator(NullLocator())


def logarithmic_ticks(values: Sequence[float]) -> list[float]:
    """Ticks of a logarithmic axis: the values themselves where they are few and apart.

    >>> logarithmic_ticks([250, 1000, 4000])
    [250, 1000, 4000]
    >>> logarithmic_ticks([12, 35, 90, 91, 130, 200, 350, 600])
    [20, 50, 100, 200, 500]
    """
    places = sorted({value for value in values if value > 0})
    if not places:
        return []
    steps = np.diff(np.log(places)) / max(np.log(places[-1] / places[0]), 1e-9)
    if len(places) <= MOST_TICKS and (steps > NEAREST_TICKS).all():
        return places
    return decade_ticks(places[0], places[-1])


def decade_ticks(low: float, high: float) -> list[float]:
    """Ticks at 1, 2 and 5 of every decade between two values, or at fewer if these are many.

    >>> decade_ticks(0.03, 3)
    [0.05, 0.1, 0.2, 0.5, 1, 2]
    """
    lowest, highest = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for leading in ((1, 2, 5), (1, 3), (1,)):
        decades = range(lowest, highest + 1)
        every = [digit * 10**decade if decade >= 0 else digit / 10**-decade
                 for decade in decades for digit in leading]  # fmt: skip
        found = [tick for tick in every if low <= tick <= high]
        if len(found) <= MOST_TICKS:
            break
    return found
