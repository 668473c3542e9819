"""What a larger encoder buys: the gap against encoder parameters, split in two, by generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.plots.column_words import axis_label
from pyrolvm.plots.small_multiples import (
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
from pyrolvm.plots.sweep import mean_and_error
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
FAR = 50.0
"""Nats from which on a panel shows total variation: a wrong mode costs whatever the noise says."""
TICKS = ((0, 0.05, 0.1, 0.3, 1, 3, 10), (0, 0.05, 0.1, 1, 10, 100), (0, 0.1, 10, 1e3, 1e5))
APPROXIMATION, AMORTIZATION = 0.38, 0.10
"""How dense the two areas are."""
NEEDED = ("model", "guide", "parameters", "gap", "approximation_gap", "amortization_gap")


def encoder_budget(
    frame: pd.DataFrame, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    r"""Gap of each guide against the parameters of its encoder, one panel a generator.

    .. math:: \text{gap} = \text{approximation gap} + \text{amortization gap}

    The denser area is the approximation gap (a limit of the family, whatever the encoder), the
    fainter one above it the amortization gap (what the encoder loses), the line their sum with one
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
    shown = with_parameters(frame)
    if shown.empty:
        raise DataError("encoder_budget needs guides with parameters, but the table has none.")
    look = theme_named(theme)
    panels, lines = list(shown["panel"].unique()), list(shown["line"].unique())
    parts = [shown[shown["panel"] == panel] for panel in panels]
    with figure_style(look):
        handles = _legend(lines, look)
        rows = legend_rows(handles, panel_columns(len(panels), width)[1])
        figure, places = panel_grid(len(panels), width, len(rows))
        for place, panel, part in zip(places, panels, parts, strict=True):
            place.set_title(panel, loc="left", fontsize=SMALL + 1)
            _draw_panel(place, part, lines, look)
        units = [axis_label("tv" if is_far(part) else "gap") for part in parts]
        label_axes(places, axis_label("parameters"), units)
        draw_legend(figure, handles, rows)
    return figure


def with_parameters(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of guides that have parameters and a gap, with short names ``panel`` and ``line``."""
    shown = frame[(frame["parameters"] > 0) & frame["gap"].notna()]
    return shown.assign(panel=labels(shown, "model"), line=labels(shown, "guide"))


def is_far(part: pd.DataFrame) -> bool:
    """Whether a quarter of the guides miss by so many nats that total variation says more."""
    known = "tv" in part.columns and bool(part["tv"].notna().all())
    return known and bool(part["gap"].quantile(0.75) > FAR)


def _legend(lines: list[str], theme: Theme) -> list[Artist]:
    return [
        *line_handles(lines, theme),
        Patch(color=mix(theme.paper, theme.muted, 0.55), label="approximation"),
        Patch(color=mix(theme.paper, theme.muted, 0.2), label="amortization"),
        Line2D([], [], color=theme.ink, linewidth=0.9, linestyle=":", label="close"),
    ]  # fmt: skip


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
            _draw_areas(place, rows, found["mean"], str(style["color"]))
    place.axhline(CLOSE_TV if far else CLOSE_NATS, color=theme.ink, linewidth=0.9, linestyle=":")
    place.set_xscale("log")
    ticks_at(place.xaxis, logarithmic_ticks(part["parameters"].tolist()))
    _scale_gap(place, far)
    plain_ticks(place.xaxis)
    plain_ticks(place.yaxis)
    dress(place, theme, grid="y")


def _draw_areas(place: Axes, rows: pd.DataFrame, gap: pd.Series[float], color: str) -> None:
    """Stack what the family misses and what the encoder misses besides."""
    least = mean_and_error(rows, "parameters", "approximation_gap")["mean"].clip(lower=0)
    if len(gap) == 1:  # a single size has no area, but two parts of a bar
        place.vlines(gap.index, 0, least, color=color, alpha=APPROXIMATION, linewidth=7)
        place.vlines(gap.index, least, gap, color=color, alpha=AMORTIZATION, linewidth=7)
        return
    place.fill_between(gap.index, 0, least, color=color, alpha=APPROXIMATION, linewidth=0)
    place.fill_between(gap.index, least, gap, color=color, alpha=AMORTIZATION, linewidth=0)


def _scale_gap(place: Axes, far: bool) -> None:
    """Total variation from 0 to 1; nats linear up to 0.1 and logarithmic above."""
    if far:
        place.set_ylim(0, 1.03)
        return
    place.set_yscale("symlog", linthresh=LINEAR_TO, linscale=0.7)
    top = max(place.get_ylim()[1], 1.15 * LINEAR_TO)
    place.set_ylim(0, top)
    for ticks in TICKS:
        if top <= 3 * ticks[-1]:
            break
    ticks_at(place.yaxis, [tick for tick in ticks if tick <= top])
