r"""Compiled quantiles of a standard normal variable on an interval, in log space.

.. math:: x = \Phi^{-1}\big(\Phi(low) + u \, (\Phi(high) - \Phi(low))\big)

The smaller tail is inverted by Halley steps on its logarithm, so that intervals far out keep
their relative accuracy.

References:
    Abramowitz & Stegun (1964), 26.2.23 (the starting value).
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import exp, expm1, inf, log, log1p, sqrt

from numba import njit

from pyrolvm.exact.special import ROOT_HALF, ROOT_HALF_PI, erfcx

# Intervals across which the density changes by less than this in the logarithm's second order.
NARROW = 1e-7


@njit(cache=True, nogil=True)
def tail_quantile(log_tail):
    """Solve log P(Z > x) = log_tail for x >= 0."""
    t = sqrt(-2.0 * log_tail)
    top = 2.515517 + t * (0.802853 + 0.010328 * t)
    x = max(t - top / (1.0 + t * (1.432788 + t * (0.189269 + 0.001308 * t))), 0.0)
    for _ in range(2):
        scaled = erfcx(x * ROOT_HALF)
        hazard = 1.0 / (ROOT_HALF_PI * scaled)
        rest = log(0.5 * scaled) - 0.5 * x * x - log_tail
        step = rest / hazard
        x += step / (1.0 + 0.5 * step * (hazard - x))
    return max(x, 0.0)


@njit(cache=True, nogil=True)
def log_tail_between(low, high, share):
    """Log of (1 - share) P(Z > low) + share P(Z > high) for 0 <= low <= high."""
    tail = 0.5 * erfcx(low * ROOT_HALF) * (1.0 - share)
    if high < inf:
        drop = exp(-0.5 * (high - low) * (high + low))
        if drop > 0.0:
            tail += 0.5 * erfcx(high * ROOT_HALF) * drop * share
    return log(tail) - 0.5 * low * low


@njit(cache=True, nogil=True)
def truncated_quantile(low, high, share):
    """Quantile of a standard normal variable on [low, high].

    Args:
        low: Lower end.
        high: Upper end, not below ``low``.
        share: Probability to the left, within (0, 1).

    Returns:
        The point, within the interval.
    """
    width = high - low
    if not width > 0.0:
        return low
    if low < 0.0 < high:
        upper = 0.5 * erfcx(high * ROOT_HALF) * exp(-0.5 * high * high)
        lower = 0.5 * erfcx(-low * ROOT_HALF) * exp(-0.5 * low * low)
        left = lower + share * (1.0 - upper - lower)
        if left <= 0.5:
            x = -tail_quantile(log(left))
        else:
            x = tail_quantile(log(upper + (1.0 - share) * (1.0 - upper - lower)))
        return min(max(x, low), high)
    if low < 0.0:
        return -truncated_tail(-high, -low, 1.0 - share)
    return truncated_tail(low, high, share)


@njit(cache=True, nogil=True)
def truncated_tail(low, high, share):
    """The same for 0 <= low <= high."""
    width = high - low
    if width * width < NARROW and low * width < 1e3 * NARROW:
        # exponential to second order: inverting a difference of tails would cancel
        drop = low * width
        part = share + 0.5 * drop * share * (share - 1.0)
        return low + width * part
    if width * width < NARROW:
        return low - log1p(share * expm1(-low * width)) / low
    return min(max(tail_quantile(log_tail_between(low, high, share)), low), high)
