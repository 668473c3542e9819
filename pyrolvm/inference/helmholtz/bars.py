"""Bars: binary images of horizontal or vertical bars, generated, so that no download is needed.

An image is horizontal or vertical; each of its lines is a bar or empty, and each pixel may flip.

References:
    Földiák (1990), Forming Sparse Representations by Local Anti-Hebbian Learning.
    Hinton, Dayan, Frey & Neal (1995), The Wake-Sleep Algorithm for Unsupervised Neural Networks
    (bars of one orientation an image).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyrolvm.datasets import Dataset

NAME = "bars"


def bars(
    size: int = 2000,
    *,
    side: int = 6,
    bar_probability: float = 0.3,
    flip_probability: float = 0.02,
    test_size: int = 1000,
    seed: int = 0,
) -> Dataset:
    """Draw images of bars.

    Args:
        size: Rows to train on.
        side: Pixels of a side.
        bar_probability: Probability that a line is a bar.
        flip_probability: Probability that a pixel is turned around.
        test_size: Rows held out.
        seed: Of all rows.

    Returns:
        Rows of ``side * side`` zeros and ones.

    >>> bars(100, test_size=10).train.unique()
    tensor([0., 1.])
    """
    generator = torch.Generator().manual_seed(seed)

    def rows(count: int) -> Tensor:
        lines = (torch.rand(count, side, 1, generator=generator) < bar_probability).float()
        images = lines.expand(-1, -1, side)
        is_vertical = torch.rand(count, 1, 1, generator=generator) < 0.5
        images = torch.where(is_vertical, images.mT, images)
        flips = torch.rand(images.shape, generator=generator) < flip_probability
        return torch.where(flips, 1 - images, images).reshape(count, -1)

    return Dataset(
        name=NAME,
        train=rows(size),
        test=rows(test_size) if test_size else None,
        kind="binary",
        source=f"generated: bars on {side} × {side} pixels, seed {seed}",
        licence="public domain (generated)",
        image_shape=(side, side),
    )
