r"""Compiled scalar functions: scaled tails and moments of a normal variable on an interval.

All integrals are scaled by the density at the interval's point nearest to 0, so that they keep
their relative accuracy however far out the interval lies.

References:
    Abramowitz & Stegun (1964), 7.1.14 (continued fraction of erfc), 25.4.30 (Gauss-Legendre).
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import erf, erfc, exp, expm1, inf, sqrt

import numpy as np
from numba import njit

ROOT_HALF = sqrt(0.5)
ROOT_HALF_PI = sqrt(np.pi / 2)
INVERSE_ROOT_2PI = 1 / sqrt(2 * np.pi)
# e^-36.5 = 1e-16: what lies further down the density than that is rounding.
REACH = 73.0

_nodes, _weights = np.polynomial.legendre.leggauss(24)
NODES_24, WEIGHTS_24 = 0.5 * (_nodes + 1), 0.5 * _weights
_nodes, _weights = np.polynomial.legendre.leggauss(16)
NODES_16, WEIGHTS_16 = 0.5 * (_nodes + 1), 0.5 * _weights


@njit(cache=True, nogil=True)
def erfcx(x):
    """Scaled complementary error function exp(x^2) erfc(x) for x >= 0."""
    if x < 5.0:
        return exp(x * x) * erfc(x)
    tail = 0.0
    for k in range(16, 0, -1):
        tail = 0.5 * k / (x + tail)
    return 0.5641895835477563 / (x + tail)


@njit(cache=True, nogil=True)
def interval_moments(low, high):
    r"""Moments of a standard normal variable v on an interval.

    .. math:: I_k = \int_{low}^{high} (v - b)^k e^{-(v^2 - b^2)/2} \, dv / \sqrt{2 \pi}

    with b the interval's point nearest to 0. Relative errors are a few units in the last place.

    Args:
        low: Lower end, may be -inf.
        high: Upper end, may be inf, not below ``low``.

    Returns:
        b, I_0, I_1 and I_2.
    """
    width = high - low
    if low <= 0.0 <= high:
        if width < 3.0:
            m0, m1, m2 = 0.0, 0.0, 0.0
            for node, weight in zip(NODES_16, WEIGHTS_16):  # noqa: B905
                v = low + width * node
                f = weight * exp(-0.5 * v * v)
                m0 += f
                m1 += f * v
                m2 += f * v * v
            scale = width * INVERSE_ROOT_2PI
            return 0.0, m0 * scale, m1 * scale, m2 * scale
        m0 = 0.5 * (erf(high * ROOT_HALF) - erf(low * ROOT_HALF))
        e_low, e_high = exp(-0.5 * low * low), exp(-0.5 * high * high)
        m1 = (expm1(-0.5 * low * low) - expm1(-0.5 * high * high)) * INVERSE_ROOT_2PI
        m2 = m0
        if e_low > 0:
            m2 += low * e_low * INVERSE_ROOT_2PI
        if e_high > 0:
            m2 -= high * e_high * INVERSE_ROOT_2PI
        return 0.0, m0, m1, m2
    base = low if low > 0.0 else high
    near = abs(base)
    if near < 3.0 and width > 2.0:
        drop = exp(-(near + 0.5 * width) * width)
        m0 = ROOT_HALF_PI * erfcx(near * ROOT_HALF)
        if drop > 0.0:
            m0 -= ROOT_HALF_PI * drop * erfcx((near + width) * ROOT_HALF)
        m1 = 1.0 - drop - near * m0
        m2 = m0 - near * m1
        if drop > 0.0:
            m2 -= width * drop
    else:
        reach = min(width, REACH / (near + sqrt(near * near + REACH)))
        m0, m1, m2 = 0.0, 0.0, 0.0
        for node, weight in zip(NODES_24, WEIGHTS_24):  # noqa: B905
            t = reach * node
            f = weight * exp(-(near + 0.5 * t) * t)
            m0 += f
            m1 += f * t
            m2 += f * t * t
        m0 *= reach
        m1 *= reach
        m2 *= reach
    if low <= 0.0:
        m1 = -m1
    return base, m0 * INVERSE_ROOT_2PI, m1 * INVERSE_ROOT_2PI, m2 * INVERSE_ROOT_2PI


@njit(cache=True, nogil=True)
def scaled_tail(t):
    """Upper tail of a standard normal variable beyond t >= 0, times exp(t^2 / 2)."""
    if t == inf:
        return 0.0
    return 0.5 * erfcx(t * ROOT_HALF)
