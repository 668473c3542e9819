"""What belief networks paint: draws of p beside draws of p*, and completed images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.plots.panels import bare, panel, write
from pyrolvm.plots.theme import SMALL, WIDE, Theme, ThemeName, figure_style, mix, theme_named

MARGIN, TITLE, BETWEEN = 0.06, 0.26, 0.3
"""Inches around everything, for a line of text, and between two blocks of images."""
LABEL = 0.95
"""Inches for the names of rows."""
MOST_IMAGE = 0.68
"""Side of an image with its gap at most, inches."""
GAP_SHARE = 0.1
"""Gap between two images, as a share of their shorter side, at least one pixel."""

Pictures = Mapping[str, Tensor]
Grid = NDArray[np.float64]


def draws_side_by_side(
    pictures: Pictures,
    image_shape: tuple[int, ...],
    theme: ThemeName = "light",
    *,
    width: float = WIDE,
) -> Figure:
    """Draws of the model p beside draws of p*, which model and guide make together.

    Args:
        pictures: ``p`` and ``pstar``, shape ``(draws, D)``.
        image_shape: Height and width of an image, pixels.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look, narrow = theme_named(theme), width < 6
    room = width - 2 * MARGIN if narrow else (width - 2 * MARGIN - BETWEEN) / 2
    columns = 8 if narrow else 6
    blocks = [mosaic(pictures[name], image_shape, columns) for name in ("p", "pstar")]
    block_width = min(room, columns * MOST_IMAGE)
    height = block_width * blocks[0].shape[0] / blocks[0].shape[1]
    size = (
        (block_width + 2 * MARGIN, 2 * (TITLE + height + MARGIN))
        if narrow
        else (2 * (block_width + MARGIN) + BETWEEN, TITLE + height + MARGIN)
    )
    with figure_style(look):
        figure = Figure(figsize=size)
        for index, (title, block) in enumerate(
            zip(("draws of p(x)", "draws of p*(x)"), blocks, strict=True)
        ):
            left = MARGIN + (0.0 if narrow else index * (block_width + BETWEEN))
            top = 0.02 + (index * (TITLE + height + MARGIN) if narrow else 0.0)
            write(figure, left, top, title, size=9.5, color=look.ink, va="top")
            _show(panel(figure, left, top + TITLE, block_width, height), block, look)
    return figure


def completed_images(
    pictures: Pictures,
    image_shape: tuple[int, ...],
    theme: ThemeName = "light",
    *,
    width: float = WIDE,
) -> Figure:
    """Test images, what was shown of them, and completions drawn from p*(hidden | shown).

    Args:
        pictures: ``x`` and ``mask``, shape ``(images, D)``, and ``completed``, shape
            ``(completions, images, D)``.
        image_shape: Height and width of an image, pixels.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    look, x, completed = theme_named(theme), pictures["x"], pictures["completed"]
    titles = ["image", "shown", *(f"completion {at + 1}" for at in range(len(completed)))]
    block = mosaic(torch.cat([x, x, *completed]), image_shape, len(x))
    hidden = torch.zeros(len(titles), *x.shape)
    hidden[1] = 1 - pictures["mask"]
    cover = mosaic(hidden.flatten(0, 1), image_shape, len(x))
    block_width = min(width - LABEL - MARGIN, len(x) * MOST_IMAGE)
    height = block_width * block.shape[0] / block.shape[1]
    with figure_style(look):
        figure = Figure(figsize=(LABEL + block_width + MARGIN, height + 2 * MARGIN))
        for row, title in enumerate(titles):
            middle = MARGIN + (row + 0.5) * height / len(titles)
            write(figure, MARGIN, middle, title, size=SMALL + 0.5, color=look.muted, va="center")
        axes = panel(figure, LABEL, MARGIN, block_width, height)
        _show(axes, block, look)
        shade = np.zeros((*cover.shape, 4))
        shade[..., :3] = to_rgb(mix(look.palette[0], look.paper, 0.5))
        shade[..., 3] = cover == 1
        axes.imshow(shade, interpolation="nearest", aspect="auto")
    return figure


def mosaic(images: Tensor, shape: tuple[int, ...], columns: int) -> Grid:
    """Lay images out row by row in one array, with gaps that are NaN.

    Args:
        images: Shape ``(images, D)``.
        shape: Height and width of an image.
        columns: Images in a row.

    >>> mosaic(torch.ones(3, 4), (2, 2), 2).shape
    (5, 5)
    """
    tall, wide = shape
    gap = max(1, round(GAP_SHARE * min(shape)))
    rows = math.ceil(len(images) / columns)
    whole = np.full((rows * (tall + gap) - gap, columns * (wide + gap) - gap), np.nan)
    for at, image in enumerate(images.double().numpy().reshape(len(images), tall, wide)):
        row, column = divmod(at, columns)
        top, left = row * (tall + gap), column * (wide + gap)
        whole[top : top + tall, left : left + wide] = image
    return whole


def _show(axes: Axes, block: Grid, look: Theme) -> None:
    colormap = colormaps[look.image_colormap].with_extremes(bad=look.faint)
    axes.imshow(block, cmap=colormap, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    bare(axes, look)
