"""What the model makes up by itself, beside the data: no guide repairs a bad model."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.panels import bare, finite_limits, panel, show_image, write
from pyrolvm.plots.theme import (
    WIDE,
    Theme,
    ThemeName,
    dress,
    figure_style,
    theme_named,
)

MOST_IMAGES = 40
MOST_STRIPS = 24


def prior_samples(tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    """Draws from the model's prior on the right, scored data on the left.

    Images where the data are images (means of x, without noise, if the tree has them); a
    histogram or points for one or two dimensions; strips of colour for more.

    Args:
        tree: A comparison with ``prior_x`` in ``/picture``, or with ``/prior_predictive``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If the tree holds no draws from the prior.
    """
    comparison, look = read_comparison(tree), theme_named(theme)
    drawn, title = _prior(comparison)
    data = _data(comparison)
    sides = [("data", data)] if data is not None else []
    sides.append((title, drawn))
    with figure_style(look):
        if comparison.image_shape is not None:
            return _images(sides, comparison.image_shape, look, width)
        if drawn.shape[1] <= 2:
            return _points(sides, look, width)
        return _strips(sides, look, width)


def _prior(comparison: ComparisonView) -> tuple[NDArray[np.float64], str]:
    picture, predictive = comparison.shared("picture"), comparison.shared("prior_predictive")
    has_means = picture is not None and "prior_x" in picture
    if has_means and (comparison.image_shape is not None or predictive is None):
        assert picture is not None
        return _rows(picture["prior_x"].values), "the model, z from its prior (means of x)"
    if predictive is not None and "x" in predictive:
        return _rows(predictive["x"].values), "the model, z from its prior (draws of x)"
    for name in comparison.names:
        own = comparison.group(name, "prior_predictive")
        if own is not None and "x" in own:
            return _rows(own["x"].values), "the model, z from its prior (draws of x)"
    raise DataError(
        "prior_samples needs prior_x in /picture or x in /prior_predictive, but this comparison "
        "has neither."
    )


def _data(comparison: ComparisonView) -> NDArray[np.float64] | None:
    for name in comparison.names:
        observed = comparison.group(name, "observed_data")
        if observed is not None and "x" in observed:
            return _rows(observed["x"].values)
    return None


def _rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(-1, 1)


def _images(
    sides: list[tuple[str, NDArray[np.float64]]], shape: tuple[int, int], look: Theme, width: float
) -> Figure:
    beside = width >= 6
    across = (width - 0.3) / len(sides) if beside else width - 0.1
    across = min(across, 5.0)
    limits = finite_limits(sides[0][1])
    mosaics = [mosaic(values[: MOST_IMAGES if beside else 24], shape) for _, values in sides]
    heights = [0.32 + across * tiles.shape[0] / tiles.shape[1] for tiles in mosaics]
    figure = Figure(figsize=(width, 0.05 + (max(heights) if beside else sum(heights))))
    left, top = 0.04, 0.0
    for (title, _), tiles, height in zip(sides, mosaics, heights, strict=True):
        write(figure, left, top + 0.2, title, size=9, color=look.ink, fontweight="bold")
        axes = panel(figure, left, top + 0.28, across, height - 0.32)
        axes.set_facecolor(look.faint)
        show_image(axes, tiles, limits, look)
        left, top = (left + across + 0.2, top) if beside else (left, top + height)
    return figure


def mosaic(images: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Images in rows of eight, with thin gaps of NaN between them.

    Args:
        images: Shape ``(n, height * width)``.
        shape: Height and width of one.

    Returns:
        One image; every pixel is enlarged, so that the gaps are thinner than it.
    """
    zoom = max(1, 64 // max(shape))
    columns, gap = min(8, len(images)), max(2, zoom // 3)
    lines = -(-len(images) // columns)
    tall, wide = shape[0] * zoom + gap, shape[1] * zoom + gap
    tiles = np.full((lines * tall - gap, columns * wide - gap), np.nan)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        pixels = np.kron(image.reshape(shape), np.ones((zoom, zoom)))
        tiles[row * tall : row * tall + tall - gap, column * wide : column * wide + wide - gap] = (
            pixels
        )
    return tiles


def _points(sides: list[tuple[str, NDArray[np.float64]]], look: Theme, width: float) -> Figure:
    figure = Figure(figsize=(min(width, 5.6), 3.4), layout="constrained")
    axes = figure.add_subplot()
    looks = [(look.ink, "o"), (look.palette[0], "s")][-len(sides) :]
    firsts = np.concatenate([values[:, 0] for _, values in sides])
    edges = np.histogram_bin_edges(firsts, bins=30).tolist()
    for (title, values), (color, marker) in zip(sides, looks, strict=True):
        if values.shape[1] == 2:
            axes.plot(
                *values.T, linestyle="none", marker=marker, markersize=3, color=color, label=title
            )
        else:
            axes.hist(
                values[:, 0],
                edges,
                density=True,
                histtype="step",
                color=color,
                label=title,
                linewidth=1.6,
            )
    is_plane = sides[0][1].shape[1] == 2
    axes.set_xlabel("x₁" if is_plane else "x")
    axes.set_ylabel("x₂" if is_plane else "density (1 / unit of x)")
    figure.legend(loc="outside upper left", ncols=2 if width >= 6 else 1)
    dress(axes, look)
    return figure


def _strips(sides: list[tuple[str, NDArray[np.float64]]], look: Theme, width: float) -> Figure:
    limits = finite_limits(sides[0][1])
    high = limits[1] if limits[1] > limits[0] else limits[0] + 1
    shown = [(title, values[:MOST_STRIPS]) for title, values in sides]
    heights = [0.4 + 0.07 * len(values) for _, values in shown]
    figure = Figure(figsize=(width, sum(heights) + 0.05))
    top = 0.0
    for (title, values), height in zip(shown, heights, strict=True):
        write(figure, 0.04, top + 0.24, title, size=9, color=look.ink, fontweight="bold")
        axes = panel(figure, 0.04, top + 0.32, width - 0.08, height - 0.4)
        axes.imshow(
            values,
            cmap=look.strip_colormap,
            vmin=limits[0],
            vmax=high,
            aspect="auto",
            interpolation="nearest",
        )
        bare(axes, look)
        top += height
    return figure
