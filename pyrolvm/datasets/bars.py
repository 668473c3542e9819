r"""Bars: binary images of horizontal or of vertical bars, with an entropy in closed form.

First the direction is drawn, horizontal or vertical, each with probability 1/2; then each of the
S bars of that direction is on with probability 1/2, independently. The empty and the full image
come from both directions, with probability :math:`2^{-S}` each; the other :math:`2^{S+1} - 4`
images show their direction and have the probability :math:`2^{-(S+1)}`. So no model can have a
mean negative log likelihood below the entropy

.. math:: H = \left(S + 1 - 2^{1-S}\right) \log 2 \quad\text{nats},

3.38 for S = 4. These are the bars and stripes of MacKay (2003), Information Theory, Inference, and
Learning Algorithms.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from pyrolvm.core.errors import DataError, require_at_least
from pyrolvm.datasets.dataset import Dataset
from pyrolvm.datasets.synthetic import DEFAULT_SIZE, LICENCE, random_stream

DEFAULT_SIDE = 4


def bars(
    size: int = DEFAULT_SIZE,
    *,
    side: int = DEFAULT_SIDE,
    seed: int = 0,
    test_size: int | None = None,
) -> Dataset:
    """Binary images of bars, all horizontal or all vertical, each on with probability 1/2.

    The label is the direction that was drawn: 0 for horizontal, 1 for vertical. The entropy is
    :func:`bars_entropy`.

    Args:
        size: Rows to train on.
        side: Bars of one direction S; an image has S × S pixels.
        seed: Of the draws.
        test_size: Rows held out, drawn independently; None for as many as to train on.

    Returns:
        Rows of S² entries, 0 or 1.

    Raises:
        DataError: If a size or ``side`` is not positive.

    Examples:
        >>> bars(100, side=3).train.shape
        torch.Size([100, 9])
    """
    test_size = size if test_size is None else test_size
    if size < 1 or test_size < 0 or side < 1:
        raise DataError(
            "The data set 'bars' needs size ≥ 1, test_size ≥ 0 and side ≥ 1, but got "
            f"size={size}, test_size={test_size}, side={side}."
        )
    train, train_labels = _drawn(size, side, random_stream(seed, 1))
    test, test_labels = _drawn(test_size, side, random_stream(seed, 2))
    return Dataset(
        name="bars",
        train=train,
        test=test if test_size else None,
        train_labels=train_labels,
        test_labels=test_labels if test_size else None,
        image_shape=(side, side),
        kind="binary",
        source=f"generated: bars of one direction, side {side}, seed {seed}",
        licence=LICENCE,
    )


def bars_entropy(side: int = DEFAULT_SIDE) -> float:
    """Entropy of one image of :func:`bars`, in nats: the least mean negative log likelihood.

    Args:
        side: Bars of one direction.

    Returns:
        (S + 1 − 2^(1 − S)) log 2.

    Raises:
        SettingError: If ``side`` is not positive.

    Examples:
        >>> round(bars_entropy(4), 3)
        3.379
    """
    require_at_least(1, side=side)
    return (side + 1 - 2.0 ** (1 - side)) * math.log(2)


def _drawn(size: int, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images, shape (size, side²), and the direction of each."""
    vertical = torch.randint(2, (size,), generator=generator)
    is_on = torch.randint(2, (size, side), generator=generator).float()
    rows = is_on[:, :, None].expand(-1, -1, side)
    images = torch.where(vertical.bool()[:, None, None], rows.mT, rows)
    return images.reshape(size, side * side), vertical
