r"""When is a figure more than chance, where the worst of many is looked at?

.. math:: |\hat\theta_j| > z \, \mathrm{se}_j, \qquad
          z = \max\bigl(3, \; \Phi^{-1}(1 - 0.01 / 2m)\bigr)

for m figures (Bonferroni, 1 % for all of them together), and Holm's adjustment for p-values.

Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtri

FEWEST_ERRORS = 3.0
"""A figure counts from so many standard errors on, however few figures there are."""

FAMILY_LEVEL = 0.01
"""Chance that any figure of a right guide counts."""


def critical_value(count: int) -> float:
    """Standard errors from which on the largest of several figures counts.

    Args:
        count: Number of figures.

    Returns:
        At least 3.

    Examples:
        >>> critical_value(1), round(critical_value(1000), 2)
        (3.0, 4.42)
    """
    return max(FEWEST_ERRORS, float(-ndtri(FAMILY_LEVEL / 2 / max(count, 1))))


def holm(p_values: Float[NDArray, " test"]) -> Float[NDArray, " test"]:
    """Adjusted p-values: all those below α are rejected, with at most α chance of any error.

    Args:
        p_values: One a test; the tests may depend on each other.

    Returns:
        One a test, at most 1.

    Examples:
        >>> holm(np.array([0.01, 0.5, 0.02])).round(3).tolist()
        [0.03, 0.5, 0.04]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(np.arange(len(p_values), 0, -1) * p_values[order])
    adjusted = np.empty_like(steps)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
