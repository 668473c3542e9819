"""Belief networks by objective: likelihood against overlap, overlap itself, depth, training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pyrolvm.inference.helmholtz.objectives import OBJECTIVES
from pyrolvm.plots.quantities import fixed
from pyrolvm.plots.small_multiples import (
    MARKERS,
    draw_legend,
    label_axes,
    legend_rows,
    panel_columns,
    panel_grid,
    plain_ticks,
    ticks_at,
)
from pyrolvm.plots.theme import (
    DASHES,
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

NLL = "test −log p(x), nats a datum"
VALIDATION = "validation −log p(x), nats a datum"
ROOT_ESS = "effective share of draws, weights √w"
BC2 = "BC² of guide and posterior"
CLIMB = 0.85
"""Quantile of a learning curve's values that its axis still shows: the start is far above."""
ROW_INCHES = 0.26


def ess_against_likelihood(
    frame: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Effective share of draws against −log p(x): one panel a data set, one point a training.

    Better is up and to the left. Bars are one standard error over test rows.

    Args:
        frame: The table of a :class:`pyrolvm.inference.helmholtz.HelmholtzStudy`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look, shown = theme_named(theme), frame[frame["in_table"]]
    keys, sets = _objectives(shown), list(shown["data"].unique())
    with figure_style(look):
        handles = _handles(keys, look, "points")
        rows = legend_rows(handles, panel_columns(len(sets), width)[1])
        figure, places = panel_grid(len(sets), width, len(rows))
        for place, data in zip(places, sets, strict=True):
            for key in keys:
                points = shown[(shown["data"] == data) & (shown["objective"] == key)]
                place.errorbar(
                    points["nll"], points["root_ess"], points["root_ess_se"], points["nll_se"],
                    linestyle="none", marker=_marker(key), markersize=5.5, color=_color(key, look),
                    elinewidth=0.8, markeredgecolor=look.paper, markeredgewidth=0.5,
                    ecolor=mix(_color(key, look), look.paper, 0.65),
                )  # fmt: skip
            place.set_title(data, loc="left")
            place.set_ylim(0, 1.04)
            place.margins(x=0.12)
            place.xaxis.set_major_locator(MaxNLocator(4))
            dress(place, look, grid="y")
        label_axes(places, NLL, [ROOT_ESS] * len(places))
        draw_legend(figure, handles, rows)
    return figure


def overlap_by_objective(
    frame: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Squared Bhattacharyya coefficient of guide and posterior: one row an objective.

    Args:
        frame: The table of a :class:`pyrolvm.inference.helmholtz.HelmholtzStudy`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look, shown = theme_named(theme), frame[frame["in_table"]]
    keys, sets = _objectives(shown), list(shown["data"].unique())
    with figure_style(look):
        figure, places = panel_grid(len(sets), width, 0)
        grid_rows = -(-len(sets) // _columns(places))
        figure.set_figheight(grid_rows * (ROW_INCHES * len(keys) + 0.75) + 0.2)
        for place, data in zip(places, sets, strict=True):
            for height, key in enumerate(reversed(keys)):
                points = shown[(shown["data"] == data) & (shown["objective"] == key)]
                color = _color(key, look)
                place.errorbar(
                    points["bc2"], np.full(len(points), height), None, points["bc2_se"],
                    linestyle="none", marker=_marker(key), markersize=5.5, color=color,
                    elinewidth=0.8, markeredgecolor=look.paper, markeredgewidth=0.5,
                )  # fmt: skip
                _write_mean(place, points["bc2"], points["bc2_se"], height, color)
            titles = [OBJECTIVES[key].title for key in reversed(keys)]
            place.set_yticks(range(len(keys)), titles)
            place.set_ylim(-0.6, len(keys) - 0.4)
            place.set_xlim(0, 1.02)
            place.set_title(data, loc="left")
            dress(place, look, grid="x")
            if not _is_leftmost(place):
                place.set_yticklabels([])
        label_axes(places, BC2, [""] * len(places))
    return figure


def likelihood_by_depth(
    frame: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """−log p(x) against the number of layers, one line an objective: means over seeds.

    Bars are one standard error over test rows.

    Args:
        frame: The table of a :class:`pyrolvm.inference.helmholtz.HelmholtzStudy`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look, shown = theme_named(theme), frame[frame["in_sweep"]]
    keys, sets = _objectives(shown), list(shown["data"].unique())
    with figure_style(look):
        handles = _handles(keys, look, "both")
        rows = legend_rows(handles, panel_columns(len(sets), width)[1])
        figure, places = panel_grid(len(sets), width, len(rows))
        for place, data in zip(places, sets, strict=True):
            own = shown[shown["data"] == data]
            for key in keys:
                means = (
                    own[own["objective"] == key].groupby("num_layers")[["nll", "nll_se"]].mean()
                )
                place.errorbar(
                    means.index.to_numpy(), means["nll"], means["nll_se"], markersize=5,
                    elinewidth=0.8, ecolor=mix(_color(key, look), look.paper, 0.65),
                    **_line(key, look), marker=_marker(key),
                )  # fmt: skip
            ticks_at(place.xaxis, sorted(own["num_layers"].unique().tolist()))
            place.set_title(data, loc="left")
            dress(place, look, grid="y")
        label_axes(places, "layers", [NLL] * len(places))
        draw_legend(figure, handles, rows)
    return figure


def validation_curves(
    frame: pd.DataFrame,
    curves: pd.DataFrame,
    theme: ThemeName = "light",
    *,
    width: float = WIDE,
) -> Figure:
    """Bound on −log p(x) of validation rows by training step, one line a training.

    Args:
        frame: The table of a :class:`pyrolvm.inference.helmholtz.HelmholtzStudy`.
        curves: Its curves.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look, shown = theme_named(theme), frame[frame["in_table"]]
    keys, sets = _objectives(shown), list(shown["data"].unique())
    with figure_style(look):
        handles = _handles(keys, look, "lines")
        rows = legend_rows(handles, panel_columns(len(sets), width)[1])
        figure, places = panel_grid(len(sets), width, len(rows))
        for place, data in zip(places, sets, strict=True):
            own = shown[shown["data"] == data]
            for _, cell in own.iterrows():
                curve = curves[curves["key"] == cell["key"]].sort_values("step")
                place.plot(curve["step"], curve["nll"], **_line(cell["objective"], look))
            values = curves[curves["key"].isin(own["key"])]["nll"]
            low, high = float(values.min()), float(values.quantile(CLIMB))
            room = 0.08 * (high - low) or 1.0
            place.set_ylim(low - room, high + room)
            place.set_xlim(left=0)
            plain_ticks(place.xaxis)
            place.set_title(data, loc="left")
            dress(place, look, grid="y")
        label_axes(places, "training step", [VALIDATION] * len(places))
        draw_legend(figure, handles, rows)
    return figure


def _objectives(frame: pd.DataFrame) -> list[str]:
    """Objectives of a table, in their order."""
    present = set(frame["objective"])
    return [key for key in OBJECTIVES if key in present]


def _place(key: str) -> int:
    return list(OBJECTIVES).index(key)


def _color(key: str, look: Theme) -> str:
    """The same for an objective in every figure."""
    return look.palette[_place(key) % len(look.palette)]


def _marker(key: str) -> str:
    return MARKERS[_place(key) % len(MARKERS)]


def _line(key: str, look: Theme) -> dict[str, Any]:
    dash = DASHES[_place(key) % len(DASHES)]
    return {"color": _color(key, look), "linestyle": dash, "linewidth": 1.4}


def _handles(
    keys: Sequence[str], look: Theme, kind: Literal["points", "lines", "both"]
) -> list[Artist]:
    """One entry of the legend for each objective."""
    return [
        Line2D(
            [], [], label=OBJECTIVES[key].title, markersize=5,
            **_line(key, look) | ({"linestyle": "none"} if kind == "points" else {}),
            marker="" if kind == "lines" else _marker(key),
        )
        for key in keys
    ]  # fmt: skip


def _write_mean(
    place: Axes, values: pd.Series, errors: pd.Series, height: float, color: str
) -> None:
    """Write the mean beside its points and their bars, on the side that has room."""
    if not len(values):
        return
    low, high = float((values - errors).min()), float((values + errors).max())
    is_right = high < 0.75
    place.annotate(
        fixed(float(values.mean()), 3), (high if is_right else low, height),
        textcoords="offset points", xytext=(7 if is_right else -7, 0), va="center",
        ha="left" if is_right else "right", color=color, fontsize=SMALL,
    )  # fmt: skip


def _columns(places: Sequence[Axes]) -> int:
    spec = places[0].get_subplotspec()
    assert spec is not None
    return int(spec.get_gridspec().ncols)


def _is_leftmost(place: Axes) -> bool:
    spec = place.get_subplotspec()
    return spec is not None and spec.is_first_col()
