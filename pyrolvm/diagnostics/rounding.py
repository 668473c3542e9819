"""A figure and its standard error as a person reads them."""

from __future__ import annotations

import math

FEWEST, MOST = 2, 4
"""Decimals."""


def rounded(value: float, error: float) -> str:
    """Round a figure to where its standard error begins; what is 0 but for rounding is 0.

    Args:
        value: The figure.
        error: Its standard error, in the same unit.

    Examples:
        >>> rounded(0.5, 0.021), rounded(0.0592, 0.0036), rounded(-1e-17, 2e-32)
        ('0.50 ± 0.02', '0.059 ± 0.004', '0.00 ± 0.00')
    """
    decimals = FEWEST
    if 0.5 * 10.0**-MOST < error < math.inf:
        decimals = min(MOST, max(FEWEST, -math.floor(math.log10(error))))
    text = f"{round(value, decimals) + 0.0:.{decimals}f} ± {error:.{decimals}f}"
    return text.replace("-", "−")
