"""Pareto k-hat of every datum: for which data are a guide's importance weights to be trusted?"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.plots.annotation import label_row
from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.quantities import number, percent
from pyrolvm.plots.theme import (
    SMALL,
    WIDE,
    Theme,
    ThemeName,
    dress,
    figure_style,
    guide_styles,
    theme_named,
)

ROW_INCHES = 0.72
HALF_STRIP = 0.24
NAME_ABOVE = 0.44
GOLDEN = 0.6180339887498949
MANY = 3000


def khat_per_datum(
    tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    r"""One dot a datum, one row a guide, and the threshold above which weights are not trusted.

    A k-hat of :math:`-\infty` says that the weights are constant, as an exact guide's are; such
    data have a place of their own at the left edge.

    Args:
        tree: A comparison whose guides have k-hat in ``sample_stats`` or ``per_datum``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If no guide has k-hat of two data.
    """
    comparison, look = read_comparison(tree), theme_named(theme)
    found = {name: _khat(comparison, name) for name in comparison.names}
    khat = {name: values for name, values in found.items() if values is not None}
    if all(values.size < 2 for values in khat.values()):
        raise DataError(
            "khat_per_datum needs the variable 'khat' for two data or more in sample_stats or "
            "per_datum of at least one guide, but no guide of this comparison has it."
        )
    low, high, edge = _range(list(khat.values()), comparison.khat_threshold)
    with figure_style(look):
        figure = Figure(figsize=(width, ROW_INCHES * len(khat) + 1.1), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlim(edge - 0.08 * (high - low) if edge < low else low, high)
        axes.set_ylim(len(khat) - 0.55, -1.15)
        _thresholds(axes, comparison.khat_threshold, look, width)
        styles = guide_styles(comparison, look)
        for index, (name, values) in enumerate(khat.items()):
            color = styles[name].color
            _strip(axes, index, values, comparison.khat_threshold, (edge, high), color, look)
            note = _note(values, comparison.khat_threshold)
            label_row(axes, index - NAME_ABOVE, name, note, look, color)
        if edge < low:
            _mark_edge(axes, edge, low, look, width)
        _ruler(axes, comparison, len(khat), look)
        dress(axes, look)
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        axes.set_xlabel("Pareto k-hat of a datum")
    return figure


def _khat(comparison: ComparisonView, name: str) -> NDArray[np.float64] | None:
    stats = comparison.group(name, "sample_stats")
    if stats is not None and "khat" in stats:
        return np.asarray(stats["khat"].values, dtype=np.float64).ravel()
    return comparison.per_datum(name, "khat")


def _range(khat: list[NDArray[np.float64]], threshold: float) -> tuple[float, float, float]:
    """Least and greatest k-hat shown, and where minus infinity goes (``low`` if nowhere)."""
    values = np.concatenate(khat)
    finite = values[np.isfinite(values)]
    low = min(float(finite.min(initial=0.0)), 0.0) - 0.05
    high = max(float(finite.max(initial=1.0)), 1.0, threshold) + 0.1
    edge = low - 0.09 * (high - low) if np.any(values == -np.inf) else low
    return low, high, edge


def _thresholds(axes: Axes, threshold: float, look: Theme, width: float) -> None:
    long = width >= 6
    marks = [
        (1.0, ":", "1: mean of the weights\ndoes not exist" if long else "1: no mean", "left"),
        (threshold, "--", f"{number(threshold, 2)}: trust ends", "right"),
    ]
    for place, dash, text, side in marks:
        axes.axvline(place, color=look.muted, linestyle=dash, linewidth=1.0, zorder=1)
        axes.annotate(
            text,
            (place, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(3 if side == "left" else -3, -2),
            textcoords="offset points",
            fontsize=SMALL,
            color=look.muted,
            ha=side,
            va="top",
        )


def _strip(
    axes: Axes,
    index: int,
    values: NDArray[np.float64],
    threshold: float,
    ends: tuple[float, float],
    color: str,
    look: Theme,
) -> None:
    known = values[~np.isnan(values)]
    places = np.clip(np.where(known == -np.inf, ends[0], known), None, ends[1])
    # A low-discrepancy sequence spreads the dots without chance: same data, same picture.
    heights = index + HALF_STRIP * (2 * (np.arange(known.size) * GOLDEN % 1) - 1)
    size = float(np.clip(2500 / max(known.size, 1), 3, 16))
    for is_above, alpha in ((False, 0.4), (True, 0.95)):
        chosen = (known > threshold) == is_above
        axes.scatter(
            places[chosen],
            heights[chosen],
            s=size,
            color=color,
            alpha=alpha,
            linewidths=0,
            zorder=3,
            rasterized=known.size > MANY,
        )
    if known.size and math.isfinite(median := float(np.median(known))):
        axes.plot(
            [min(median, ends[1])] * 2,
            [index - HALF_STRIP - 0.06, index + HALF_STRIP + 0.06],
            color=look.ink,
            linewidth=2.0,
            solid_capstyle="butt",
            zorder=4,
        )


def _note(values: NDArray[np.float64], threshold: float) -> str:
    known = values[~np.isnan(values)]
    if not known.size:
        return "k-hat is not defined for any datum"
    undefined = values.size - known.size
    tail = f", {undefined} undefined" if undefined else ""
    return f"{percent(float(np.mean(known > threshold)))} above {number(threshold, 2)}{tail}"


def _mark_edge(axes: Axes, edge: float, low: float, look: Theme, width: float) -> None:
    axes.axvspan(axes.get_xlim()[0], low, color=look.bands[0], linewidth=0, zorder=0)
    axes.annotate(
        "constant\nweights",
        ((axes.get_xlim()[0] + low) / 2, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, -2),
        textcoords="offset points",
        fontsize=SMALL - 1,
        color=look.muted,
        ha="center",
        va="top",
    )
    ticks = MaxNLocator(8 if width >= 6 else 5, steps=[1, 2, 5, 10]).tick_values(
        low, axes.get_xlim()[1]
    )
    shown = [float(tick) for tick in ticks if low <= tick <= axes.get_xlim()[1]]
    axes.set_xticks(
        [edge, *shown], labels=["−∞", *(f"{tick:.4g}".replace("-", "−") for tick in shown)]
    )


def sampling_error(num_particles: int, khat: float = 0.7) -> float:
    r"""Asymptotic standard deviation of one k-hat, a generalised Pareto fit to M tail weights.

    .. math:: (1 + k) / \sqrt{M}, \quad M = \min(S / 5, 3 \sqrt{S})

    Args:
        num_particles: Draws S.
        khat: The value at which it is asked for.

    Returns:
        The standard deviation.

    Example:
        >>> round(sampling_error(1000), 2)
        0.17
    """
    tail = max(1.0, min(num_particles / 5, 3 * math.sqrt(num_particles)))
    return (1 + khat) / math.sqrt(tail)


def _ruler(axes: Axes, comparison: ComparisonView, rows: int, look: Theme) -> None:
    """A bar as long as the sampling error of one k-hat, so that a dot is not over-read."""
    if comparison.num_particles is None:
        return
    error = sampling_error(comparison.num_particles)
    center = comparison.khat_threshold
    axes.errorbar(
        center, rows - 0.66, xerr=error, color=look.muted, linewidth=1.0, capsize=2.5, zorder=5
    )
    axes.annotate(
        f"one dot is known to ± {number(error, 2)}",
        (center - error, rows - 0.66),
        xytext=(-5, 0),
        textcoords="offset points",
        fontsize=SMALL - 0.5,
        color=look.muted,
        va="center",
        ha="right",
        bbox={"facecolor": look.paper, "linewidth": 0, "pad": 1.0},
    )
