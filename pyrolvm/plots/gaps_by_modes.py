"""The gap of every datum against how many modes its exact posterior has, one panel a guide."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyrolvm.plots.column_words import axis_label
from pyrolvm.plots.small_multiples import (
    draw_legend,
    label_axes,
    legend_rows,
    panel_columns,
    panel_grid,
)
from pyrolvm.plots.theme import SMALL, WIDE, Theme, ThemeName, dress, figure_style, theme_named

if TYPE_CHECKING:
    import pandas as pd

ENTROPY, GAP = "mode_entropy", "gap"
LINEAR = 1e-3
"""Nats below which the axis of gaps is linear, so that gaps of 0 are seen."""
TICKS = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
BINS = (0.0, 0.01, 0.1, 0.3, math.inf)
"""Classes of mode entropy, nats; below the first limit a posterior has one mode."""


def gaps_by_modes(
    rows: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Draw a dot for every scored datum, and the mean of the gap in classes of mode entropy.

    Args:
        rows: One row a datum and guide: ``family`` (the guide), ``mode_entropy`` and ``gap`` in
            nats; see :func:`of_guides`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.
    """
    look = theme_named(theme)
    guides = list(dict.fromkeys(rows["family"]))
    with figure_style(look):
        handles = _legend(look)
        lines = legend_rows(handles, panel_columns(len(guides), width)[1])
        figure, places = panel_grid(len(guides), width, len(lines))
        highest = max(1.0, float(rows[GAP].max()))
        for index, (place, guide) in enumerate(zip(places, guides, strict=True)):
            _draw(place, rows[rows["family"] == guide], look, index)
            place.set_title(guide, loc="left", fontsize=SMALL + 1)
            place.set_ylim(-0.3 * LINEAR, 1.5 * highest)
            place.set_xlim(-0.03, max(0.75, 1.04 * float(rows[ENTROPY].max())))
        label_axes(places, axis_label(ENTROPY), [axis_label(GAP)] * len(places))
        draw_legend(figure, handles, lines)
    return figure


def of_guides(frame: pd.DataFrame, per_datum: pd.DataFrame) -> pd.DataFrame:
    """Figures of every datum with the name of its guide; data without a mode entropy are left out.

    Args:
        frame: Cells with the column ``family``.
        per_datum: From :meth:`pyrolvm.studies.StudyResult.per_datum`.
    """
    rows = per_datum.dropna(subset=[ENTROPY, GAP]).merge(frame[["cell", "family"]], on="cell")
    order = {name: place for place, name in enumerate(dict.fromkeys(frame["family"]))}
    return rows.sort_values("family", key=lambda names: names.map(order), kind="stable")


def class_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean gap of one guide in each class of mode entropy.

    Args:
        rows: Data of one guide.

    Returns:
        ``entropy`` (mean), ``mean``, ``error`` (one standard error over data) and ``count`` by
        class, in the order of :data:`BINS`; NaN in a class without data.
    """
    import pandas as pd

    classes = pd.cut(rows[ENTROPY], list(BINS), right=False, labels=list(class_names()))
    found = rows.groupby(classes, observed=False)[GAP].agg(["mean", "std", "count"])
    found["error"] = found["std"] / np.sqrt(found["count"].clip(lower=1))
    found["entropy"] = rows.groupby(classes, observed=False)[ENTROPY].mean()
    return found[["entropy", "mean", "error", "count"]]


def class_names() -> tuple[str, ...]:
    """Names of the classes of mode entropy.

    >>> class_names()
    ('below 0.01', '0.01 to 0.1', '0.1 to 0.3', '0.3 and above')
    """
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(BINS[1:-1])]
    return (f"below {BINS[1]:g}", *inner, f"{BINS[-2]:g} and above")


def _draw(place: Axes, rows: pd.DataFrame, theme: Theme, index: int) -> None:
    colour = theme.palette[index % len(theme.palette)]
    place.plot(rows[ENTROPY], rows[GAP].clip(lower=0.0), "o", color=colour, markersize=2.5,
               alpha=0.35, markeredgewidth=0)  # fmt: skip
    means = class_means(rows).dropna(subset=["mean"])
    place.plot(means["entropy"], means["mean"].clip(lower=0.0), "-D", color=theme.ink,
               markersize=4, linewidth=1.0)  # fmt: skip
    place.axvline(math.log(2), color=theme.muted, linewidth=0.8, linestyle=":")
    place.set_yscale("symlog", linthresh=LINEAR, linscale=0.4)
    place.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    place.minorticks_off()
    dress(place, theme, grid="y")


def _legend(theme: Theme) -> list[Artist]:
    empty: list[float] = []
    return [
        Line2D(empty, empty, color=theme.muted, marker="o", linestyle="none", markersize=3,
               label="a datum"),
        Line2D(empty, empty, color=theme.ink, marker="D", markersize=4, label="mean of a class"),
        Line2D(empty, empty, color=theme.muted, linestyle=":", label="two equal modes"),
    ]  # fmt: skip
