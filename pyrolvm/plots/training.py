"""Training curves: had each guide stopped getting better when its training ended?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.plots.annotation import EndLabel, label_ends, room_for, shortened
from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.theme import (
    WIDE,
    ThemeName,
    dress,
    figure_style,
    guide_styles,
    theme_named,
)

HEIGHT = 3.4
LEFT, BOTTOM, TOP = 0.62, 0.55, 0.2
WINDOWS = 60
"""A curve is drawn as the means of about so many windows."""


def training_curves(
    tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Loss (nats a datum) against training step, one line a guide; dots: its per-datum oracle.

    Lines are means over windows of steps. The axis shows where the curves end; the first steps
    may lie above it.

    Args:
        tree: A comparison some of whose guides have the group ``training``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If no guide has a training curve.
    """
    comparison, look = read_comparison(tree), theme_named(theme)
    curves = {name: _curve(comparison, name, "loss") for name in comparison.names}
    known = {name: curve for name, curve in curves.items() if curve is not None}
    if not known:
        raise DataError(
            "training_curves needs the variable 'loss' in the group training of at least one "
            "guide, but no guide of this comparison has it."
        )
    with figure_style(look):
        figure = Figure(figsize=(width, HEIGHT))
        styles = guide_styles(comparison, look)
        labels = [
            EndLabel(float(loss[-1]), shortened(name, 18), styles[name].color)
            for name, (_, loss) in known.items()
        ]
        plot = (width - LEFT - room_for(labels), HEIGHT - BOTTOM - TOP)
        axes = figure.add_axes((LEFT / width, BOTTOM / HEIGHT, plot[0] / width, plot[1] / HEIGHT))
        for name, (steps, loss) in known.items():
            style = styles[name]
            axes.plot(steps, loss, color=style.color, linestyle=style.dash, linewidth=1.5)
            oracle = _curve(comparison, name, "oracle_loss")
            if oracle is not None:
                axes.plot(*oracle, color=style.color, linestyle="none", marker=".", markersize=2)
        axes.set_ylim(*_loss_range([loss for _, loss in known.values()]))
        axes.set_xlim(0, max([1.0, *(float(steps[-1]) for steps, _ in known.values())]))
        dress(axes, look, grid="y")
        axes.set_xlabel("training step")
        axes.set_ylabel("loss (−ELBO), nats a datum")
        label_ends(axes, labels, plot[1])
    return figure


def _curve(
    comparison: ComparisonView, name: str, variable: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    training = comparison.group(name, "training")
    if training is None or variable not in training:
        return None
    series = training[variable]
    loss = np.asarray(series.values, dtype=np.float64).ravel()
    coordinate = series.dims[0]
    steps = training[coordinate].values if coordinate in training.coords else np.arange(loss.size)
    finite = np.isfinite(loss)
    steps, loss = np.asarray(steps, dtype=np.float64)[finite], loss[finite]
    if not loss.size:
        return None
    window = max(1, loss.size // WINDOWS)
    starts = np.arange(0, loss.size, window)
    sizes = np.diff(np.append(starts, loss.size))
    return np.add.reduceat(steps, starts) / sizes, np.add.reduceat(loss, starts) / sizes


def _loss_range(losses: list[NDArray[np.float64]]) -> tuple[float, float]:
    low = min(float(loss.min()) for loss in losses)
    high = max(float(np.quantile(loss, 0.9)) for loss in losses)
    span = (high - low) or 1.0
    return low - 0.06 * span, high + 0.1 * span
