"""The gap of each guide as a bar: what its family cannot express, plus what its encoder loses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pyrolvm.plots.annotation import label_row
from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.quantities import RESOLUTION, with_error
from pyrolvm.plots.theme import (
    SMALL,
    WIDE,
    Theme,
    ThemeName,
    dress,
    figure_style,
    guide_styles,
    mix,
    theme_named,
)

ROW_INCHES = 0.56
NUMBER_INCHES = 1.35
BAR = 0.36
NAME_ABOVE = 0.36
SHARED = {
    "amortization": "what the shared encoder loses",
    "optimisation": "what training lacks",
}
"""What the second part of a gap can be due to; the attribute ``shared_part`` says which."""


@dataclass(frozen=True)
class _Row:
    name: str
    gap: float
    gap_se: float
    approximation: float
    approximation_se: float
    amortization: float
    amortization_se: float

    @property
    def is_split(self) -> bool:
        return math.isfinite(self.approximation) and math.isfinite(self.amortization)

    @property
    def reach(self) -> float:
        ends = [self.gap + _known(self.gap_se)]
        if self.is_split:
            ends.append(self.approximation + _known(self.approximation_se))
        return max([end for end in ends if math.isfinite(end)], default=0.0)

    @property
    def lowest(self) -> float:
        ends = [self.gap - _known(self.gap_se), self.approximation - _known(self.approximation_se)]
        return min([end for end in ends if math.isfinite(end)], default=0.0)


def _known(standard_error: float) -> float:
    return standard_error if math.isfinite(standard_error) else 0.0


def gap_bars(tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    r"""Stacked bars: approximation gap + amortization gap = gap, in nats.

    .. math:: \log p(x) - \mathrm{ELBO}(q) = \mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))

    The numbers stand at the bars, so that a gap that is too small to see is still read. Whiskers
    are one standard error: the thick one of the total, the thin ones of the parts.

    Args:
        tree: A comparison.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.
    """
    comparison, look = read_comparison(tree), theme_named(theme)
    rows = _rows(comparison)
    height = ROW_INCHES * len(rows) + 1.05
    with figure_style(look):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        for index, row in enumerate(rows):
            _draw_row(axes, index, row, comparison, look, width)
        _limits(axes, rows, width)
        dress(axes, look, grid="x")
        axes.spines["left"].set_visible(False)
        if axes.get_xlim()[0] < 0:
            axes.axvline(0, color=look.muted, linewidth=0.9)
        axes.set_yticks([])
        bound = " (a lower bound: ≥)" if comparison.is_bound else ""
        parts = ("gap to log p(x), ", f"{comparison.unit}{bound}")
        axes.set_xlabel(("" if width >= 6 else "\n").join(parts))
        _legend(figure, rows, _shared(comparison), look, width)
    return figure


def _rows(comparison: ComparisonView) -> list[_Row]:
    def cell(variable: str, name: str) -> float:
        return comparison.cell(variable, name)

    return [
        _Row(
            name,
            cell("gap", name),
            cell("gap_se", name),
            cell("approximation_gap", name),
            cell("approximation_gap_se", name),
            cell("amortization_gap", name),
            cell("amortization_gap_se", name),
        )
        for name in comparison.names
    ]


def _draw_row(
    axes: Axes, index: int, row: _Row, comparison: ComparisonView, look: Theme, width: float
) -> None:
    color = guide_styles(comparison, look)[row.name].color
    sign = "≥" if comparison.is_bound else ""
    pale = mix(color, look.paper, 0.72)
    if row.is_split:
        axes.barh(index, row.approximation, BAR, color=color)
        axes.barh(
            index,
            row.amortization,
            BAR,
            left=row.approximation,
            facecolor=pale,
            edgecolor=color,
            hatch="/////",
            linewidth=0.9,
        )
        _whisker(axes, row.approximation, index - 0.27, row.approximation_se, color, 1.0)
        _whisker(axes, row.gap, index + 0.27, row.amortization_se, color, 1.0)
    elif math.isfinite(row.gap):
        axes.barh(index, row.gap, BAR, facecolor=pale, edgecolor=color, linewidth=1.2)
    _whisker(axes, row.gap, index, row.gap_se, look.ink, 1.8)
    place = (max(row.reach, 0.0), index)
    axes.annotate(
        with_error(row.gap, row.gap_se, sign),
        place,
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontweight="bold",
    )
    note = _split_note(row, sign, _shared(comparison), width)
    label_row(axes, index - NAME_ABOVE - 0.09, row.name, note, look, color)


def _shared(comparison: ComparisonView) -> str:
    return comparison.text("shared_part") or "amortization"


def _split_note(row: _Row, sign: str, shared: str, width: float) -> str:
    if not row.is_split:
        return ""
    first = with_error(row.approximation, row.approximation_se, sign)
    second = with_error(row.amortization, row.amortization_se)
    if width < 6:
        return f"{first}  +  {second}"
    return f"approximation {first}  +  {shared} {second}"


def _whisker(
    axes: Axes, end: float, height: float, standard_error: float, color: str, thickness: float
) -> None:
    if _known(standard_error) > RESOLUTION and math.isfinite(end):
        axes.errorbar(
            end,
            height,
            xerr=standard_error,
            color=color,
            linewidth=thickness,
            capsize=1.5 + thickness,
            capthick=thickness * 0.8,
        )


def _limits(axes: Axes, rows: list[_Row], width: float) -> None:
    high = max([row.reach for row in rows] + [0.0])
    low = min([row.lowest for row in rows] + [0.0])
    low = low if low < -0.005 * high else 0.0
    span = (high - low) or 1.0
    share = NUMBER_INCHES / (width - 0.3)
    axes.set_xlim(low - 0.01 * span if low < 0 else 0.0, low + span / (1 - share))
    axes.set_ylim(len(rows) - 0.5, -0.72)


def _legend(figure: Figure, rows: list[_Row], shared: str, look: Theme, width: float) -> None:
    gray = look.muted
    pale = mix(gray, look.paper, 0.72)
    long = width >= 6
    handles = []
    if any(row.is_split for row in rows):
        handles += [
            Patch(
                color=gray,
                label="approximation: what the family cannot express"
                if long
                else "approximation gap",
            ),
            Patch(
                facecolor=pale,
                edgecolor=gray,
                hatch="/////",
                label=f"{shared}: {SHARED[shared]}" if long else f"{shared} gap",
            ),
        ]
    if any(not row.is_split and row.gap > 0 for row in rows):
        handles.append(Patch(facecolor=pale, edgecolor=gray, label="total, not split"))
    if handles:
        figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=len(handles) if long else 2,
            fontsize=SMALL,
            handlelength=1.6,
            columnspacing=1.4,
            borderaxespad=0.2,
        )
