"""The plane of two layers' rates: where trained models lie, and how well each does a task."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from pyrolvm.inference.rate_plane.tasks import (
    TASKS,
    Optimum,
    Task,
    mean_over_seeds,
    optimum,
)
from pyrolvm.plots.quantities import number
from pyrolvm.plots.small_multiples import MARKERS, draw_legend, label_axes, legend_rows, panel_grid
from pyrolvm.plots.theme import (
    SMALL,
    WIDE,
    Theme,
    ThemeName,
    dress,
    figure_style,
    mix,
    theme_named,
)

if TYPE_CHECKING:
    import pandas as pd

WEIGHT_1, WEIGHT_2 = "weight β₁ of the rate of z₁", "weight β₂ of the rate of z₂"
RATE_1, RATE_2 = "rate of z₁, nats", "rate of z₂, nats"
PLANE_HEIGHT = 3.9
MAP_SHADE = 0.75
"""How far the best value of a map is from paper to colour."""


def rate_plane(frame: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    """Every trained model as a point of the plane of rates, with the optimum of each task.

    Colour is the weight of the top layer's rate, the marker that of the lower layer's. Lines join
    means over seeds with one weight of the top layer. Rings mark where a task is served best.

    Args:
        frame: The table of a :class:`pyrolvm.inference.rate_plane.RatePlane`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look, means = theme_named(theme), mean_over_seeds(frame)
    optima = [optimum(frame, task) for task in TASKS]
    with figure_style(look):
        handles = _weight_handles(frame, look)
        rows = legend_rows(handles, width)
        height = PLANE_HEIGHT + 0.2 * len(rows)
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        colors = weight_colors(frame["weight_2"].unique().tolist(), look)
        markers = _markers(frame)
        for second, color in colors.items():
            line = means[means["weight_2"] == second].sort_values("weight_1")
            axes.plot(line["rate_1"], line["rate_2"], color=color, linewidth=0.9, alpha=0.6)
            for first, marker in markers.items():
                points = frame[(frame["weight_1"] == first) & (frame["weight_2"] == second)]
                axes.plot(
                    points["rate_1"], points["rate_2"], linestyle="none", marker=marker,
                    markersize=5, color=color, markeredgecolor=look.paper, markeredgewidth=0.5,
                )  # fmt: skip
        axes.margins(x=0.04, y=0.14)
        _mark_optima(axes, optima, look)
        axes.set_xlabel(RATE_1)
        axes.set_ylabel(RATE_2)
        dress(axes, look, grid="y")
        draw_legend(figure, handles, rows)
    return figure


def task_maps(frame: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    """How well each pair of weights serves each task: one map a task, means over seeds.

    A thick frame marks the best pair, thin frames those that two standard errors over seeds do not
    tell from it.

    Args:
        frame: The table of a :class:`pyrolvm.inference.rate_plane.RatePlane`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look = theme_named(theme)
    with figure_style(look):
        figure, places = panel_grid(len(TASKS), width, 0)
        for place, task in zip(places, TASKS, strict=True):
            _map(place, frame, task, look)
        label_axes(places, WEIGHT_2, [WEIGHT_1] * len(places))
    return figure


def weight_colors(weights: list[float], look: Theme) -> dict[float, str]:
    """One colour for each weight: from blue over grey, which is 1, to orange."""
    most = max((abs(math.log(weight)) for weight in weights), default=0) or 1.0
    low, middle, high = look.palette[0], mix(look.muted, look.paper, 0.15), look.palette[1]
    return {
        weight: mix(middle, high if weight > 1 else low, abs(math.log(weight)) / most)
        for weight in weights
    }


def _markers(frame: pd.DataFrame) -> dict[float, str]:
    weights = sorted(frame["weight_1"].unique())
    return {weight: MARKERS[index % len(MARKERS)] for index, weight in enumerate(weights)}


def _weight_handles(frame: pd.DataFrame, look: Theme) -> list[Artist]:
    shapes: list[Artist] = [
        Line2D([], [], linestyle="none", marker=marker, markersize=5, color=look.muted,
               label=f"β₁ = {weight:.3g}")
        for weight, marker in _markers(frame).items()
    ]  # fmt: skip
    colors = weight_colors(sorted(frame["weight_2"].unique().tolist()), look)
    return shapes + [
        Line2D([], [], color=color, linewidth=2.5, label=f"β₂ = {weight:.3g}")
        for weight, color in colors.items()
    ]


def _mark_optima(axes: Axes, optima: list[Optimum], look: Theme) -> None:
    """A ring around each point that is an optimum, with the names of its tasks beside it."""
    places: dict[tuple[float, float], list[str]] = {}
    for one in optima:
        places.setdefault((one.rate_1, one.rate_2), []).append(one.task.short)
    low, high = axes.get_xlim()
    for index, ((x, y), names) in enumerate(sorted(places.items())):
        is_left, is_above = x < low + 0.65 * (high - low), index % 2 == 0
        axes.plot(
            [x], [y], marker="o", markersize=13, markerfacecolor="none",
            markeredgecolor=look.ink, markeredgewidth=1.3,
        )  # fmt: skip
        axes.annotate(
            "\n".join(names), (x, y), textcoords="offset points",
            xytext=(6 if is_left else -6, 8 if is_above else -8),
            ha="left" if is_left else "right", va="bottom" if is_above else "top",
            color=look.ink, fontweight="bold", fontsize=SMALL + 0.5,
        )  # fmt: skip


def _map(place: Axes, frame: pd.DataFrame, task: Task, look: Theme) -> None:
    table = mean_over_seeds(frame).pivot_table(
        index="weight_1", columns="weight_2", values=task.column
    )
    values = table.to_numpy()
    shown = values if task.largest else -values
    colormap = LinearSegmentedColormap.from_list(
        "task", [look.paper, mix(look.paper, look.palette[0], MAP_SHADE)]
    )
    place.imshow(shown, cmap=colormap, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        place.text(
            column, row, number(float(value)), ha="center", va="center", color=look.ink,
            fontsize=SMALL - 0.5 if values.shape[1] <= 5 else SMALL - 2,
        )  # fmt: skip
    best = optimum(frame, task)
    rows, columns = table.index.to_list(), [float(name) for name in table.columns.to_numpy()]
    for first, second in best.rivals:
        _frame_cell(place, columns.index(second), rows.index(first), look.muted, 0.8)
    at = columns.index(best.weight_2), rows.index(best.weight_1)
    _frame_cell(place, *at, look.ink, 2.0)
    place.set_title(f"{task.title}\n{task.label}", loc="left")
    place.set_xticks(range(len(columns)), [f"{weight:.3g}" for weight in columns])
    place.set_yticks(range(len(rows)), [f"{weight:.3g}" for weight in rows])
    dress(place, look)


def _frame_cell(place: Axes, column: int, row: int, color: str, thickness: float) -> None:
    inset = 0.46
    place.add_patch(
        Rectangle(
            (column - inset, row - inset), 2 * inset, 2 * inset,
            fill=False, edgecolor=color, linewidth=thickness,
        )
    )  # fmt: skip
