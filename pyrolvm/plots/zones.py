"""Rows of dots with error bars before zones that say from where on an error matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pyrolvm.plots.annotation import shortened
from pyrolvm.plots.theme import SMALL, Theme, dress

Array = NDArray[np.float64]

ROW = 0.27
"""Height of a row, inches."""
FRAME = 1.0
"""Height of title and axis, inches."""
MOST_ROWS = 24
SPREAD = 0.3
"""Half the height, in rows, over which dots of one row are spread."""
TWO_ERRORS = 2.0
"""Standard errors that a bar has to either side."""


def shade(axes: Axes, limits: tuple[float, float], zones: Sequence[float], look: Theme) -> None:
    """Shade from where on an error asks for care, and deeper where it is bad.

    Args:
        axes: Their x-limits become the given ones.
        limits: Of the x-axis.
        zones: Where bad and care end below and care and bad begin above; infinite where a side
            has none.
        look: The theme.
    """
    low, high = limits
    edges = [low, *np.clip(zones, low, high), high]
    depths = (look.bands[1], look.bands[0], None, look.bands[0], look.bands[1])
    for left, right, color in zip(edges[:-1], edges[1:], depths, strict=True):
        if color is not None and right > left:
            axes.axvspan(left, right, color=color, linewidth=0, zorder=0)
    axes.set_xlim(low, high)


def limits_of(values: Array, errors: Array, least: float, most: float) -> float:
    """How far an axis that is symmetric about 0 has to reach.

    Args:
        values: What is drawn.
        errors: Their standard errors.
        least: It reaches at least so far.
        most: And no further; what lies beyond is drawn at the edge.
    """
    reach = np.abs(values) + TWO_ERRORS * np.nan_to_num(errors)
    finite = reach[np.isfinite(reach)]
    return float(np.clip(1.06 * finite.max(initial=0.0), least, most))


def dots(axes: Axes, row: int, values: Array, errors: Array, color: str, limit: float) -> None:
    """Dots of one row with bars of two standard errors; triangles at the edge for those beyond.

    Args:
        axes: Where.
        row: Height.
        values: One a dot.
        errors: Their standard errors.
        color: Of all of them.
        limit: Values beyond ± this stand at the edge.
    """
    heights = row + (SPREAD * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(1))
    size = 4.5 if len(values) < 4 else 3.2
    for value, error, height in zip(values, errors, heights, strict=True):
        if np.isnan(value):
            continue
        inside = -limit <= value <= limit
        marker = "o" if inside else "<" if value < 0 else ">"
        place = float(np.clip(value, -limit, limit))
        bar = TWO_ERRORS * error if inside and np.isfinite(error) else 0.0
        axes.errorbar(
            place, height, xerr=bar, fmt=marker, color=color, markersize=size,
            elinewidth=0.9, clip_on=False, zorder=4,
        )  # fmt: skip


def name_rows(axes: Axes, names: Sequence[str], look: Theme, longest: int = 18) -> None:
    """Names at the left, the first row on top.

    Args:
        axes: Where.
        names: One a row.
        look: The theme.
        longest: Characters that are shown.
    """
    dress(axes, look)
    axes.set_yticks(range(len(names)), [shortened(name, longest) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelsize=SMALL)
    axes.spines["left"].set_visible(False)
