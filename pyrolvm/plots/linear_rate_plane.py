"""The rate plane of a linear Gaussian hierarchy: exact contours, bounds, and SVI on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyrolvm.inference.rate_plane.linear import LinearPlane
from pyrolvm.plots.annotation import EndLabel, label_ends
from pyrolvm.plots.rate_plane import RATE_1, RATE_2, WEIGHT_1, WEIGHT_2, weight_colors
from pyrolvm.plots.small_multiples import (
    draw_legend,
    legend_rows,
    logarithmic_ticks,
    panel_grid,
    plain_ticks,
    ticks_at,
)
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

CONTOURS = (("rate_1", "Rate of z₁, nats"), ("rate_2", "Rate of z₂, nats"),
            ("distortion", "Distortion, nats"))  # fmt: skip
NUM_LEVELS = 7
WEIGHT_TICKS = (0.1, 0.3, 1.0, 3.0, 10.0)
MESH_LINES = 9
TRADE_HEIGHT = 1.6
"""Of the axes of a panel, inches."""


def linear_rate_plane(
    plane: LinearPlane, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Rates and distortion of the best guides in closed form, and of guides trained by SVI.

    Above: contours over the weights. Below: the same guides in the plane of rates, where lines
    have one weight; distortion against the total rate, with the line h(X) - R that no guide can
    cross; and the rates along the weight of the top layer, the other weight being 1.

    Args:
        plane: From :func:`pyrolvm.inference.rate_plane.linear_rate_plane`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look = theme_named(theme)
    with figure_style(look):
        handles = _handles(look, trained=len(plane.trained) > 0)
        rows = legend_rows(handles, width)
        figure, places = panel_grid(6, width, len(rows))
        for place, (column, title), color in zip(places, CONTOURS, look.palette, strict=False):
            _contours(place, plane, column, title, color, look)
        _mesh(places[3], plane, look)
        _bound(places[4], plane, look)
        _trade(places[5], plane.frame, look)
        draw_legend(figure, handles, rows)
    return figure


def _handles(look: Theme, *, trained: bool) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color=look.muted, linestyle="dotted", label="both weights equal"),
        Line2D([], [], color=look.ink, linewidth=1.6, label="no guide below this line"),
    ]
    if trained:
        handles.append(
            Line2D([], [], linestyle="none", marker="o", markersize=5, markerfacecolor=look.paper,
                   markeredgecolor=look.ink, label="trained by SVI")
        )  # fmt: skip
    return handles


def _points(place: Axes, x: Sequence[float], y: Sequence[float], look: Theme) -> None:
    place.plot(
        x, y, linestyle="none", marker="o", markersize=4.5, markerfacecolor=look.paper,
        markeredgecolor=look.ink, zorder=5,
    )  # fmt: skip


def _contours(
    place: Axes, plane: LinearPlane, column: str, title: str, color: str, look: Theme
) -> None:
    table = plane.frame.pivot_table(index="weight_1", columns="weight_2", values=column)
    x, y, values = table.columns.to_numpy(), table.index.to_numpy(), table.to_numpy()
    for axis, set_scale in ((place.xaxis, place.set_xscale), (place.yaxis, place.set_yscale)):
        set_scale("log")
        plain_ticks(axis)
        ticks_at(axis, [tick for tick in WEIGHT_TICKS if x.min() <= tick <= x.max()])
    drawn = place.contour(
        x, y, values, levels=NUM_LEVELS, colors=[mix(color, look.ink, 0.1)], linewidths=1.1
    )
    place.clabel(drawn, fontsize=SMALL - 1, inline_spacing=2)
    place.plot(x, x, color=look.muted, linestyle="dotted", linewidth=1.0)
    _points(place, plane.trained["weight_2"].tolist(), plane.trained["weight_1"].tolist(), look)
    place.set_title(title, loc="left")
    place.set_xlabel(WEIGHT_2)
    place.set_ylabel(WEIGHT_1)
    dress(place, look)


def _mesh(place: Axes, plane: LinearPlane, look: Theme) -> None:
    """Lines of one weight in the plane of rates."""
    frame = plane.frame
    for column, dash in (("weight_2", "solid"), ("weight_1", (0, (3.0, 1.5)))):
        weights = sorted(frame[column].unique().tolist())
        every = max(1, (len(weights) - 1) // (MESH_LINES - 1))
        colors = weight_colors(weights, look)
        other = "weight_1" if column == "weight_2" else "weight_2"
        for weight in weights[::every]:
            line = frame[frame[column] == weight].sort_values(other)
            place.plot(
                line["rate_1"], line["rate_2"], color=colors[weight], linestyle=dash,
                linewidth=0.9,
            )  # fmt: skip
    equal = frame[frame["weight_1"] == frame["weight_2"]].sort_values("weight_1")
    place.plot(equal["rate_1"], equal["rate_2"], color=look.muted, linestyle="dotted")
    _points(place, plane.trained["rate_1"].tolist(), plane.trained["rate_2"].tolist(), look)
    place.set_title("Plane of rates; lines: one weight", loc="left")
    place.set_xlabel(RATE_1)
    place.set_ylabel(RATE_2)
    dress(place, look)


def _bound(place: Axes, plane: LinearPlane, look: Theme) -> None:
    """Distortion against total rate, and h(X) - R."""
    frame, trained = plane.frame, plane.trained
    total = frame["rate_1"] + frame["rate_2"]
    place.plot(
        total, frame["distortion"], linestyle="none", marker=".", markersize=2.5,
        color=look.palette[0],
    )  # fmt: skip
    ends = np.array([0.0, 1.05 * float(total.max())])
    place.plot(ends, plane.entropy - ends, color=look.ink, linewidth=1.6)
    _points(
        place, (trained["rate_1"] + trained["rate_2"]).tolist(), trained["distortion"].tolist(),
        look,
    )  # fmt: skip
    lowest, highest = float(frame["distortion"].min()), float(frame["distortion"].max())
    place.set_ylim(lowest - 0.15 * (highest - lowest), highest + 0.05 * (highest - lowest))
    place.set_title("Distortion and its bound, nats", loc="left")
    place.set_xlabel("total rate, nats")
    dress(place, look)


def _trade(place: Axes, frame: pd.DataFrame, look: Theme) -> None:
    """Rates along the weight of the top layer; the other weight is the one nearest to 1."""
    weights = frame["weight_1"].to_numpy()
    nearest = weights[np.abs(np.log(weights)).argmin()]
    line = frame[frame["weight_1"] == nearest].sort_values("weight_2")
    total = line["rate_1"] + line["rate_2"]
    named = (("z₁", line["rate_1"]), ("z₂", line["rate_2"]), ("both", total))
    ends = []
    for (name, rates), color in zip(named, look.palette, strict=False):
        place.plot(line["weight_2"], rates, color=color, linewidth=1.5)
        ends.append(EndLabel(float(rates.iloc[-1]), name, color))
    place.set_xscale("log")
    plain_ticks(place.xaxis)
    inside = [t for t in WEIGHT_TICKS if line["weight_2"].min() <= t <= line["weight_2"].max()]
    ticks_at(place.xaxis, inside or logarithmic_ticks(line["weight_2"].tolist()))
    place.set_title(f"Trading: rates at β₁ = {nearest:.3g}, nats", loc="left")
    place.set_xlabel(WEIGHT_2)
    dress(place, look, grid="y")
    label_ends(place, ends, TRADE_HEIGHT)
