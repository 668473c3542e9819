"""The gap of every datum, sorted: a little wrong everywhere, or badly wrong somewhere?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.plots.annotation import EndLabel, label_ends, room_for, shortened
from pyrolvm.plots.comparison import ZERO_GAP, read_comparison
from pyrolvm.plots.quantities import number
from pyrolvm.plots.theme import (
    WIDE,
    ThemeName,
    dress,
    figure_style,
    guide_styles,
    theme_named,
)

HEIGHT = 3.5
SKEW = 10
"""Largest gap over the upper quartile above which a linear axis would hide most data."""

LEFT, BOTTOM, TOP = 0.75, 0.55, 0.2


def gap_per_datum(tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    """Empirical quantiles of the per-datum gap, one line a guide.

    Args:
        tree: A comparison whose guides have the group ``per_datum``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If no guide has per-datum gaps of two data.
    """
    comparison, look = read_comparison(tree), theme_named(theme)
    gaps = {name: comparison.per_datum(name, "gap") for name in comparison.names}
    sorted_gaps = {name: _sorted(gap) for name, gap in gaps.items() if gap is not None}
    sorted_gaps = {name: gap for name, gap in sorted_gaps.items() if gap.size}
    if all(gap.size < 2 for gap in sorted_gaps.values()):
        raise DataError(
            "gap_per_datum needs the variable 'gap' for two data or more in the group per_datum "
            "of at least one guide, but no guide of this comparison has it."
        )
    is_wide = width >= 6
    with figure_style(look):
        figure = Figure(figsize=(width, HEIGHT))
        styles, labels = guide_styles(comparison, look), []
        for name, gap in sorted_gaps.items():
            note = f"  median {number(_tidy(np.median(gap)))}, max {number(_tidy(gap[-1]))}"
            text = shortened(name, 20 if is_wide else 18) + (note if is_wide else "")
            labels.append(EndLabel(float(gap[-1]), text, styles[name].color))
        plot = (width - LEFT - room_for(labels), HEIGHT - BOTTOM - TOP)
        axes = figure.add_axes((LEFT / width, BOTTOM / HEIGHT, plot[0] / width, plot[1] / HEIGHT))
        for name, gap in sorted_gaps.items():
            style = styles[name]
            axes.plot(
                _shares(gap.size), gap, color=style.color, linestyle=style.dash, linewidth=1.7
            )
        dress(axes, look, grid="y")
        axes.axhline(0, color=look.muted, linewidth=0.8, zorder=0)
        axes.set_xlim(0, 1)
        axes.margins(y=0.04)
        axes.set_xticks(np.linspace(0, 1, 6 if is_wide else 3))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.set_xlabel("share of the data, sorted by gap")
        sign = " (≥)" if comparison.is_bound else ""
        bend = _bend(list(sorted_gaps.values()))
        if bend is not None:
            _bend_axis(axes, bend)
        scale = "" if bend is None else f"\n(logarithmic above {number(bend, 1)})"
        axes.set_ylabel(f"gap of a datum, nats{sign}{scale}")
        label_ends(axes, labels, plot[1])
    return figure


def _bend(gaps: list[NDArray[np.float64]]) -> float | None:
    """Gap above which the axis is logarithmic; None where a linear axis shows all there is."""
    pooled = np.concatenate([gap for gap in gaps if np.median(gap) > ZERO_GAP] or gaps)
    typical, largest = float(np.quantile(pooled, 0.75)), float(pooled.max())
    if typical <= ZERO_GAP or largest < SKEW * typical:
        return None
    return float(10 ** np.floor(np.log10(typical)))


def _bend_axis(axes: Axes, bend: float) -> None:
    """Linear between -bend and bend, logarithmic beyond, with ticks that are plain numbers."""
    low, high = axes.dataLim.intervaly
    axes.set_yscale("symlog", linthresh=bend)
    decades = bend * 10.0 ** np.arange(0, np.ceil(np.log10(high / bend)) + 1)
    ticks = [0.0, *(step * decade for decade in decades for step in (1, 3))]
    ticks += [-tick for tick in ticks[1:] if -tick >= low]
    axes.set_yticks(sorted(tick for tick in ticks if tick <= 1.5 * high), minor=False)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 2)))
    axes.set_ylim(min(1.3 * low, -0.15 * bend), 1.4 * high)


def _sorted(gap: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sort(gap[np.isfinite(gap)])


def _shares(size: int) -> NDArray[np.float64]:
    return (np.arange(size) + 0.5) / size


def _tidy(gap: float) -> float:
    return 0.0 if abs(gap) < ZERO_GAP else float(gap)
