"""One figure of a sweep against another: a panel for each value, a line for each other value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.plots.theme import (
    DASHES,
    SMALL,
    WIDE,
    Theme,
    ThemeName,
    dress,
    figure_style,
    theme_named,
)

if TYPE_CHECKING:
    import pandas as pd

PANEL_HEIGHT = 2.35
LEAST_PANEL_WIDTH = 2.9
MARKERS = "osD^vPX*"

AXIS_LABELS = {
    "parameters": "encoder parameters",
    "gap": "gap, nats a datum",
    "approximation_gap": "approximation gap, nats a datum",
    "amortization_gap": "amortization gap, nats a datum",
    "tv": "total variation distance",
    "tv_share": "share of data with TV ≤ 0.1",
    "guide.width": "width of the hidden layers",
    "guide.num_components": "components of the guide's mixture",
    "evidence_loss": "log p(x) lost to the truth, nats a datum",
    "marginal_gap": "KL of the guide's marginal, nats a datum",
}


@dataclass(frozen=True)
class SweepAxes:
    """Which columns of a study's table make a figure.

    Args:
        x: Column along the x-axis.
        y: Column along the y-axis.
        line: Column with one line for each value; None for a single line.
        panel: Column with one panel for each value; None for a single panel.
        reference: Column with what theory says of ``y``, drawn as crosses; None for none.
        threshold: Height of a dotted line, for what counts as close.
        log_x: Whether x is logarithmic.
        log_y: Whether y is logarithmic.
    """

    x: str
    y: str
    line: str | None = None
    panel: str | None = None
    reference: str | None = None
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
        figure, places = panel_grid(len(panels), width)
        for place, panel in zip(places, panels, strict=True):
            part = frame if axes.panel is None else frame[frame[axes.panel].astype(str) == panel]
            _draw_panel(place, part, axes, lines, look)
            place.set_title(value_label(axes.panel, panel), loc="left", fontsize=SMALL + 1)
        label_outer(places, axis_label(axes.x), axis_label(axes.y))
        if axes.line is not None or axes.reference is not None:
            figure.legend(
                handles=legend_handles(
                    [value_label(axes.line, line) for line in lines if axes.line],
                    look,
                    axes.reference,
                ),
                loc="outside upper center",
                ncols=max(1, min(6, len(lines) + 1)),
            )
    return figure


def ordered_values(frame: pd.DataFrame, column: str | None) -> list[str]:
    """Values of a column as text: numbers by size, words as they come; ``[""]`` for no column."""
    if column is None:
        return [""]
    values = frame[column].dropna().unique().tolist()
    if all(isinstance(value, (int, float)) for value in values):
        values = sorted(values)
    return [str(value) for value in values]


def value_label(column: str | None, value: str) -> str:
    """What a line or a panel is called: numbers with the name of their column.

    >>> value_label("model.slope", "0.5"), value_label("guide.family", "full")
    ('slope 0.5', 'full')
    """
    if column is None:
        return value
    try:
        return f"{axis_label(column)} {float(value):g}"
    except ValueError:
        return value


def panel_grid(number: int, width: float) -> tuple[Figure, list[Axes]]:
    """Make a figure with so many panels, as many in a row as there is room for."""
    columns = max(1, min(number, int(width / LEAST_PANEL_WIDTH)))
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(width, 0.6 + PANEL_HEIGHT * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for spare in grid.ravel()[number:]:
        spare.set_visible(False)
    return figure, list(grid.ravel()[:number])


def label_outer(places: Sequence[Axes], x_label: str, y_label: str) -> None:
    """Label the x-axes of the lowest panels and the y-axes of the leftmost ones."""
    for index, place in enumerate(places):
        spec = place.get_subplotspec()
        assert spec is not None
        columns = spec.get_gridspec().ncols
        if spec.is_first_col():
            place.set_ylabel(y_label)
        if index + columns >= len(places):
            place.set_xlabel(x_label)


def axis_label(column: str) -> str:
    """What an axis of a column is called, with its unit."""
    return AXIS_LABELS.get(column, column.rsplit(".", maxsplit=1)[-1].replace("_", " "))


def plain_ticks(place: Axes) -> None:
    """Write the ticks of both axes as plain numbers, also on logarithmic axes."""
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}".replace("-", "−"))
        axis.set_minor_formatter(NullFormatter())


def line_style(index: int, theme: Theme) -> dict[str, object]:
    """Colour, dash and marker of a line, the same in every panel."""
    return {
        "color": theme.palette[index % len(theme.palette)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def legend_handles(lines: Sequence[str], theme: Theme, reference: str | None) -> list[Line2D]:
    """One entry a line, and one for what theory says."""
    handles = [Line2D([], [], label=n, **line_style(i, theme)) for i, n in enumerate(lines)]  # type: ignore[arg-type]
    if reference is not None:
        cross = Line2D([], [], color=theme.ink, marker="x", linestyle="none", label="theory")
        handles.append(cross)
    return handles


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


def _draw_panel(
    place: Axes, part: pd.DataFrame, axes: SweepAxes, lines: Sequence[str], theme: Theme
) -> None:
    for index, name in enumerate(lines):
        rows = part if axes.line is None else part[part[axes.line].astype(str) == name]
        rows = rows.dropna(subset=[axes.x, axes.y])
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
    if axes.log_x:
        place.set_xscale("log", base=2)
    if axes.log_y:
        place.set_yscale("log")
    plain_ticks(place)
    dress(place, theme, grid="y")
