"""Handwritten digits, 8 × 8 pixels, that come with scikit-learn: real data without a download.

Alpaydin & Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49.
"""

from __future__ import annotations

import torch

from pyrolvm.datasets.dataset import Dataset

NUM_DIGITS = 1797
DIGITS_DIM = 64
LARGEST = 16.0


def digits(*, test_size: int = 297, seed: int = 0) -> Dataset:
    """The 1,797 digits, scaled from 0..16 to [0, 1], shuffled and split.

    Args:
        test_size: Rows held out, at least 0 and below 1,797.
        seed: Of the shuffle; another seed is another split.

    Returns:
        Rows of 64 pixels, with the digit as label; ``test`` is None for ``test_size=0``.

    Raises:
        ValueError: If ``test_size`` leaves no rows to train on.

    Examples:
        >>> digits().train.shape, digits().test.shape
        (torch.Size([1500, 64]), torch.Size([297, 64]))
    """
    from sklearn.datasets import load_digits

    if not 0 <= test_size < NUM_DIGITS:
        raise ValueError(
            f"test_size must lie between 0 and {NUM_DIGITS - 1}, as there are {NUM_DIGITS} "
            f"digits, but is {test_size}."
        )
    pixels, classes = load_digits(return_X_y=True)
    order = torch.randperm(NUM_DIGITS, generator=torch.Generator().manual_seed(seed))
    rows = (torch.from_numpy(pixels) / LARGEST).float()[order]
    labels = torch.from_numpy(classes).long()[order]
    size = NUM_DIGITS - test_size
    return Dataset(
        name="digits",
        train=rows[:size],
        test=rows[size:] if test_size else None,
        train_labels=labels[:size],
        test_labels=labels[size:] if test_size else None,
        image_shape=(8, 8),
        kind="continuous",
        source="scikit-learn; Alpaydin & Kaynak (1998), https://doi.org/10.24432/C50P49",
        licence="CC BY 4.0",
    )
