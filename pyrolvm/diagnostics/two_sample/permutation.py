"""A statistic with its values under permuted labels: an exact test, whatever the statistic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

BAND = (0.05, 0.95)
"""Quantiles of the null distribution that are shown; a one-sided test rejects above at 5 %."""


@dataclass(frozen=True, eq=False)
class Permuted:
    """A statistic that is large where two samples differ.

    Args:
        value: Its value.
        null: Its values when labels are permuted, shape ``(B,)``.
    """

    value: float
    null: Float[NDArray, " permutation"]

    @property
    def p_value(self) -> float:
        """(b + 1) / (B + 1), b the permutations that reach the value: valid at every level."""
        reached = int((self.null >= self.value - 1e-12 * abs(self.value)).sum())
        return (1 + reached) / (1 + len(self.null))

    @property
    def band(self) -> tuple[float, float]:
        """The 5 % and 95 % quantile of the null distribution."""
        low, high = np.quantile(self.null, BAND)
        return float(low), float(high)


def pooled(tests: list[Permuted]) -> Permuted:
    """All data in one test: the sum over data in units of each one's null distribution.

    Labels are permuted in each datum by itself, so that the sum has an exact test as well. It
    finds a small difference that all data share and none shows alone.

    Args:
        tests: One a datum, with the same number of permutations.
    """
    value, null = 0.0, np.zeros_like(tests[0].null)
    for test in tests:
        center, scale = test.null.mean(), test.null.std() or 1.0
        value += (test.value - center) / scale
        null = null + (test.null - center) / scale
    return Permuted(float(value), null)
