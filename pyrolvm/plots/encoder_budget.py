"""What a larger encoder buys: the gap against encoder parameters, split in two, by generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.plots.sweep import (
    legend_handles,
    line_style,
    mean_and_error,
    panel_grid,
    plain_ticks,
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
from pyrolvm.studies.labels import labels

if TYPE_CHECKING:
    import pandas as pd

CLOSE_NATS, CLOSE_TV = 0.05, 0.1
LINEAR_TO = 0.1
FAR = 20.0
"""Nats from which on a panel shows total variation: a wrong mode costs whatever the noise says."""
NEEDED = ("model", "guide", "parameters", "gap", "approximation_gap", "amortization_gap")


def encoder_budget(
    frame: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    r"""Gap of each guide against the parameters of its encoder, one panel a generator.

    .. math:: \text{gap} = \text{approximation gap} + \text{amortization gap}

    The darker area is the approximation gap (a limit of the family, whatever the encoder), the
    lighter one above it the amortization gap (what the encoder loses), the line their sum with one
    standard error over seeds. A generator whose wrong modes cost tens of nats is shown in total
    variation. The dotted line is what counts as close: 0.05 nats, or 0.1. The axis is linear up to
    0.1 nats and logarithmic above.

    Args:
        frame: The table of a study; guides without parameters are left out.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        UnknownNameError: If the table lacks a column.
        DataError: If no guide of the table has parameters.

    References:
        Cremer, Li & Duvenaud (2018), Inference Suboptimality in Variational Autoencoders.
    """
    for name in NEEDED:
        if name not in frame.columns:
            raise UnknownNameError("column of the study's table", name, frame.columns)
    shown = frame.assign(panel=labels(frame, "model"), line=labels(frame, "guide"))
    shown = shown[(shown["parameters"] > 0) & shown["gap"].notna()]
    if shown.empty:
        raise DataError("encoder_budget needs guides with parameters, but the table has none.")
    look = theme_named(theme)
    panels, lines = list(shown["panel"].unique()), list(shown["line"].unique())
    with figure_style(look):
        figure, places = panel_grid(len(panels), width)
        for place, panel in zip(places, panels, strict=True):
            place.set_title(panel, loc="left", fontsize=SMALL + 1)
            place.set_xlabel("encoder parameters")
            _draw_panel(place, shown[shown["panel"] == panel], lines, look)
        areas = [
            Patch(color=mix(look.paper, look.muted, 0.55), label="approximation"),
            Patch(color=mix(look.paper, look.muted, 0.2), label="amortization"),
        ]
        handles = [*legend_handles(lines, look, None), *areas]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(6, len(handles)))
    return figure


def is_far(part: pd.DataFrame) -> bool:
    """Whether every guide of a generator misses by so many nats that total variation says more."""
    known = "tv" in part.columns and bool(part["tv"].notna().all())
    return known and bool(part["gap"].min() > FAR)


def _draw_panel(place: Axes, part: pd.DataFrame, lines: list[str], theme: Theme) -> None:
    far = is_far(part)
    figure = "tv" if far else "gap"
    for index, name in enumerate(lines):
        rows = part[part["line"] == name]
        if rows.empty:
            continue
        style = line_style(index, theme)
        found = mean_and_error(rows, "parameters", figure)
        place.errorbar(
            found.index, found["mean"], found["error"], capsize=2, elinewidth=0.8, zorder=4,
            **style,  # type: ignore[arg-type]
        )  # fmt: skip
        if not far and rows["approximation_gap"].notna().any():
            least = mean_and_error(rows, "parameters", "approximation_gap")["mean"].clip(lower=0)
            color = str(style["color"])
            place.fill_between(found.index, 0, least, color=color, alpha=0.35, linewidth=0)
            place.fill_between(
                found.index, least, found["mean"], color=color, alpha=0.12, linewidth=0
            )
    place.axhline(CLOSE_TV if far else CLOSE_NATS, color=theme.ink, linewidth=0.9, linestyle=":")
    place.set_xscale("log")
    place.set_ylabel("total variation" if far else "gap, nats a datum")
    if far:
        place.set_ylim(0, 1)
    else:
        place.set_yscale("symlog", linthresh=LINEAR_TO, linscale=0.7)
        place.set_ylim(bottom=0)
    plain_ticks(place)
    dress(place, theme, grid="y")
