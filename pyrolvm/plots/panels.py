"""Small multiples, placed in inches from the top left corner of a figure."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrolvm.plots.theme import Theme


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches.

    Args:
        figure: The figure.
        left: From the figure's left edge.
        top: From the figure's top edge.
        width: Of the axes.
        height: Of the axes.

    Returns:
        New axes.
    """
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes(
        (
            left / whole_width,
            1 - (top + height) / whole_height,
            width / whole_width,
            height / whole_height,
        )
    )


def write(
    figure: Figure, left: float, top: float, text: str, *, size: float, color: str, **style: object
) -> None:
    """Text at a place given in inches from the top left corner."""
    whole_width, whole_height = figure.get_size_inches()
    figure.text(
        left / whole_width,
        1 - top / whole_height,
        text,
        fontsize=size,
        color=color,
        **style,  # type: ignore[arg-type]
    )


def show_image(
    axes: Axes, pixels: NDArray[np.float64], limits: tuple[float, float], look: Theme
) -> None:
    """A grey image without axes, in a faint frame.

    Args:
        axes: Where.
        pixels: Shape ``(height, width)``.
        limits: Values shown as paper and as ink.
        look: The theme.
    """
    low, high = limits
    axes.imshow(
        pixels,
        cmap=look.image_colormap,
        vmin=low,
        vmax=high if high > low else low + 1.0,
        interpolation="nearest",
        aspect="auto",
    )
    bare(axes, look)


def bare(axes: Axes, look: Theme) -> None:
    """Take ticks away and leave a faint frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(look.faint)
        spine.set_linewidth(0.7)


def finite_limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Least and greatest finite value; (0, 1) if there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
