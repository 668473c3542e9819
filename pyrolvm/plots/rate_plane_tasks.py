"""What rates allow and what they do: Fano's bound on accuracy, and quality against rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyrolvm.diagnostics.rates import fano_accuracy
from pyrolvm.plots.rate_plane import RATE_2, weight_colors
from pyrolvm.plots.small_multiples import (
    draw_legend,
    legend_rows,
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
    theme_named,
)

if TYPE_CHECKING:
    import pandas as pd

LINEAR_TO = 0.1
"""Nats up to which an axis of rates is linear."""
LEFT = -0.012
"""Where such an axis begins, so that points at 0 are seen."""
RATE_TICKS = (0.0, 0.1, 1.0, 10.0, 100.0)
FANO_HEIGHT = 3.6
QUALITIES = (
    ("psnr", "total_rate", "PSNR, dB"),
    ("distortion", "total_rate", "distortion, nats a datum"),
    ("excess_2", "rate_2", "excess of the rate of z₂, nats"),
    ("score", "rate_2", "classifier score"),
    ("diversity", "rate_2", "diversity, classes"),
    ("sharpness", "rate_2", "sharpness"),
)


def fano_curve(
    frame: pd.DataFrame,
    num_classes: int,
    label_entropy: float,
    theme: ThemeName = "light",
    *,
    width: float = WIDE,
) -> Figure:
    """Accuracy of probes on z_2 against the rate of z_2, with Fano's bound.

    Filled points: probes that see a draw of q(z_2 | x), which cannot lie above the curve, up to
    the error of a finite sample (bars: one standard error). Open points: probes that see its mean;
    the bound does not hold for them.

    Args:
        frame: The table of a :class:`pyrolvm.inference.rate_plane.RatePlane`.
        num_classes: Number K of classes.
        label_entropy: Entropy of the classes of the rows held out, nats.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look = theme_named(theme)
    with figure_style(look):
        drawn, mean = look.palette[0], look.palette[1]
        handles = _fano_handles(look)
        rows = legend_rows(handles, width)
        figure = Figure(figsize=(width, FANO_HEIGHT + 0.2 * len(rows)), layout="constrained")
        axes = figure.subplots()
        most = max(1.2 * float(frame["rate_2"].max()), 2 * label_entropy)
        rates = np.concatenate([np.linspace(0, 0.1, 60), np.geomspace(0.1, most, 200)[1:]])
        bound = [fano_accuracy(rate, num_classes, label_entropy) for rate in rates]
        start = np.array([LEFT, 0.0]), np.full(2, bound[0])
        axes.fill_between(*start, 1.06, color=look.faint, alpha=0.55, linewidth=0)
        axes.fill_between(rates, bound, 1.06, color=look.faint, alpha=0.55, linewidth=0)
        axes.plot(rates, bound, color=look.ink, linewidth=1.6)
        axes.errorbar(
            frame["rate_2"], frame["accuracy_drawn"], frame["accuracy_drawn_se"],
            linestyle="none", marker="o", markersize=4.5, color=drawn, linewidth=1.0,
        )  # fmt: skip
        axes.plot(
            frame["rate_2"], frame["accuracy_mean"], linestyle="none", marker="s", markersize=4.5,
            markerfacecolor="none", markeredgecolor=mean,
        )  # fmt: skip
        _scale_rate(axes, most)
        axes.set_ylim(0, 1.06)
        axes.set_xlabel(RATE_2)
        axes.set_ylabel("accuracy on held-out rows")
        axes.text(
            0.02, 0.96, "no probe of a draw\ncan lie here", color=look.muted,
            fontsize=SMALL, transform=axes.transAxes, va="top",
        )  # fmt: skip
        dress(axes, look)
        draw_legend(figure, handles, rows)
    return figure


def quality_against_rates(
    frame: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Reconstruction against the total rate, and samples against the rate of the top layer.

    Args:
        frame: The table of a :class:`pyrolvm.inference.rate_plane.RatePlane`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look = theme_named(theme)
    shown = frame.assign(total_rate=frame["rate_1"] + frame["rate_2"])
    colors = weight_colors(sorted(frame["weight_1"].unique().tolist()), look)
    handles: list[Artist] = [
        Line2D([], [], linestyle="none", marker="o", color=color, label=f"β₁ = {weight:.3g}")
        for weight, color in colors.items()
    ]
    with figure_style(look):
        rows = legend_rows(handles, width)
        figure, places = panel_grid(len(QUALITIES), width, len(rows))
        for place, (column, rate, label) in zip(places, QUALITIES, strict=True):
            place.set_title(label, loc="left")
            for weight, color in colors.items():
                points = shown[shown["weight_1"] == weight]
                place.plot(
                    points[rate], points[column], linestyle="none", marker="o", markersize=4,
                    color=color,
                )  # fmt: skip
            if rate == "rate_2":
                _scale_rate(place, 1.2 * float(frame["rate_2"].max()))
            place.set_xlabel(RATE_2 if rate == "rate_2" else "total rate, nats")
            dress(place, look, grid="y")
        draw_legend(figure, handles, rows)
    return figure


def _fano_handles(look: Theme) -> list[Artist]:
    return [
        Line2D([], [], color=look.ink, linewidth=1.6, label="Fano's bound"),
        Line2D([], [], linestyle="none", marker="o", color=look.palette[0],
               label="probe of a draw of z₂"),
        Line2D([], [], linestyle="none", marker="s", markerfacecolor="none",
               markeredgecolor=look.palette[1], label="probe of the mean: not bounded"),
    ]  # fmt: skip


def _scale_rate(axes: Axes, most: float) -> None:
    """Linear up to 0.1 nats, logarithmic above."""
    axes.set_xscale("symlog", linthresh=LINEAR_TO, linscale=0.6)
    axes.set_xlim(LEFT, most)
    plain_ticks(axes.xaxis)
    ticks_at(axes.xaxis, [tick for tick in RATE_TICKS if tick <= most])
