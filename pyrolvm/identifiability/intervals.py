"""How far off an agreement of codes may be, had other data been encoded: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import DataError, SettingError, require_at_least, require_seed
from pyrolvm.identifiability import ladder
from pyrolvm.identifiability.codes import Array, paired_codes
from pyrolvm.identifiability.moments import Moments
from pyrolvm.identifiability.nonlinear import held_out_prediction, nonlinear_r2

Metric = Callable[[Any, Any], float]

OF_MOMENTS: Mapping[Metric, Callable[[Moments], Array]] = {
    ladder.raw_r2: ladder.raw_of,
    ladder.sign_r2: ladder.sign_of,
    ladder.signed_correlation: ladder.signed_of,
    ladder.mcc: ladder.matched_of,
    ladder.orthogonal_r2: ladder.orthogonal_of,
    ladder.affine_r2: ladder.affine_of,
}
"""Figures that are functions of means and covariances, which need no drawn-out samples."""


@dataclass(frozen=True)
class Interval:
    """A figure and the interval in which it lies, had other data been drawn.

    Args:
        value: On the data at hand.
        low: Lower end.
        high: Upper end.
        level: Share of data sets whose interval holds the figure of the population.
    """

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def with_interval(
    metric: Metric,
    z: Float[Tensor, "data D"],
    z_hat: Float[Tensor, "data D"],
    *,
    num_resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compare two sets of codes, with a percentile bootstrap over data.

    Rows are drawn with replacement, the same ones of both. The interval covers the choice of the
    data, and not that of the runs. Of :func:`nonlinear_r2` the held-out predictions are drawn
    anew, and not the rows that they were fitted to: copies of a row on both sides would flatter.
    :func:`affine_r2` is fitted to the rows that it is judged on: it is too high by about
    (1 − R²) D / N, its interval by twice that, which counts unless N is some hundred times D.

    Args:
        metric: A function of two matrices of codes, such as :func:`raw_r2`.
        z: Codes, shape ``(N, D)``.
        z_hat: Codes of the same data, same shape.
        num_resamples: Bootstrap samples, at least 20.
        level: Of the interval, between 0 and 1.
        seed: Of the bootstrap.

    Returns:
        The figure with its interval.

    Raises:
        DataError: As the metric.
        SettingError: If there are too few resamples, or the level is not between 0 and 1.

    >>> from pyrolvm.identifiability import raw_r2
    >>> z = torch.randn(100, 2)
    >>> print(with_interval(raw_r2, z, z))
    1.000 [1.000, 1.000]
    """
    require_at_least(20, num_resamples=num_resamples)
    require_seed(seed)
    if not 0 < level < 1:
        raise SettingError(f"level should lie between 0 and 1, but it is {level}.")
    if not callable(metric):
        raise SettingError(
            f"with_interval needs a function of two sets of codes, but got {metric!r}. Take one "
            "from pyrolvm.identifiability.LADDER, by its name there."
        )
    first, second = paired_codes(z, z_hat)
    if metric is nonlinear_r2:
        first, second = held_out_prediction(*map(torch.from_numpy, (first, second)))
        metric = ladder.raw_r2
    size = len(first)
    random = np.random.default_rng(seed)
    drawn = (random.integers(size, size=size) for _ in range(num_resamples))
    counts = [np.ones(size, dtype=np.int64), *(np.bincount(d, minlength=size) for d in drawn)]
    values = _values(metric, first, second, np.array(counts))
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values[0]), float(low), float(high), level)


def _values(metric: Metric, first: Array, second: Array, counts: Array) -> Array:
    """The figure for each row of counts."""
    if metric in OF_MOMENTS:
        return OF_MOMENTS[metric](Moments.of(first, second, counts))
    if metric is ladder.spearman_mcc:
        return ladder.matched_of(Moments.of(first, second, counts, ranks=True))
    samples = (np.repeat(np.arange(len(row)), row) for row in counts)
    return np.array([_of_rows(metric, first[rows], second[rows]) for rows in samples])


def _of_rows(metric: Metric, first: Array, second: Array) -> float:
    try:
        return metric(torch.from_numpy(first), torch.from_numpy(second))
    except DataError as error:
        raise DataError(
            f"A bootstrap sample of {len(first)} rows is too poor to be compared ({error}) "
            "Encode more data."
        ) from error
