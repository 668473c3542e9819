"""Compiled distribution function and quantiles for one latent coordinate.

On piece r the joint density of data and latent is a Gaussian in v = w - Q^T rho (see
:mod:`~pyrolvm.exact.geometry`). It is written from the piece's most probable point s, as
e^(level - (v - s)(v + s) / 2): no digit is lost however far from its own mean a piece lies.
"""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from math import exp, inf, log, log1p

import numpy as np
from numba import njit

from pyrolvm.exact.special import INVERSE_ROOT_2PI, interval_moments

LOG_ROOT_2PI = -log(INVERSE_ROOT_2PI)
# A normal variable cut to an interval is nearer than this to its most probable point, up to a
# probability that double precision cannot write.
FARTHEST = 40.0


@njit(cache=True, nogil=True)
def add_logs(a, b):
    """Log of e^a + e^b."""
    if a < b:
        a, b = b, a
    return a if b == -inf else a + log1p(exp(b - a))


@njit(cache=True, nogil=True)
def log_mass(low, high, start, level):
    """Log integral of a piece over [low, high], in nats; ``start`` is where ``level`` holds."""
    if not high > low:
        return -inf
    base, mass, _, _ = interval_moments(low, high)
    if not mass > 0.0:
        return -inf
    return level - 0.5 * (base - start) * (base + start) + log(mass)


@njit(cache=True, nogil=True)
def place_pieces(y, values, anchors, basis, factor, log_det, corners, table, left, right):
    """Write all pieces of one datum and their cumulative masses.

    Args:
        y: Reduced datum, ``(D',)``.
        values: See :class:`~pyrolvm.exact.geometry.RegionGeometry`, likewise the next five.
        anchors: ``(R, 1)``.
        basis: ``(R, 1, D' + 1)``.
        factor: ``(R, 1, 1)``.
        log_det: ``(R,)``.
        corners: ``(R, 2)``.
        table: Receives level (per unit of v), start, lower end, upper end (all in v) and w at the
            start, ``(R, 5)``.
        left: Receives log masses below each piece, and of all, ``(R + 1,)``.
        right: Receives log masses from each piece on, ``(R + 1,)``.
    """
    regions, width = values.shape
    for r in range(regions):
        mean = -basis[r, 0, width] * anchors[r, 0]
        for d in range(width):
            mean += basis[r, 0, d] * (y[d] - values[r, d])
        w = min(max(mean, corners[r, 0]), corners[r, 1])
        square, pull = 0.0, 0.0
        for d in range(width):
            rest = y[d] - values[r, d] - basis[r, 0, d] * w
            square += rest * rest
            pull += basis[r, 0, d] * rest
        rest = -anchors[r, 0] - basis[r, 0, width] * w
        square += rest * rest
        pull += basis[r, 0, width] * rest
        table[r, 0] = -0.5 * square - log_det[r]
        table[r, 1] = -pull
        table[r, 2] = corners[r, 0] - w - pull
        table[r, 3] = corners[r, 1] - w - pull
        table[r, 4] = w
    left[0], right[regions] = -inf, -inf
    for r in range(regions):
        left[r + 1] = log_mass(table[r, 2], table[r, 3], table[r, 1], table[r, 0])
        right[r] = left[r + 1]
    for r in range(regions):
        left[r + 1] = add_logs(left[r], left[r + 1])
    for r in range(regions - 1, -1, -1):
        right[r] = add_logs(right[r], right[r + 1])


@njit(cache=True, nogil=True)
def tails(begin, end, points, edges, y, geometry, log_below, log_above):
    """Log probabilities below and above given points.

    Args:
        begin: First datum to work on.
        end: Datum to stop before.
        points: Whitened points, ``(P, N)``.
        edges: Breakpoints, ``(R + 1,)``.
        y: Reduced data, ``(N, D')``.
        geometry: Values, anchors, basis, factor, log_det and corners.
        log_below: Receives log P(u <= point), ``(P, N)``.
        log_above: Receives log P(u > point), ``(P, N)``.
    """
    anchors, factor = geometry[1], geometry[3]
    regions = len(anchors)
    table, left, right = np.empty((regions, 5)), np.empty(regions + 1), np.empty(regions + 1)
    for n in range(begin, end):
        place_pieces(y[n], *geometry, table, left, right)
        for p in range(points.shape[0]):
            u = points[p, n]
            r = min(max(np.searchsorted(edges, u) - 1, 0), regions - 1)
            level, start, low, high, w = table[r]
            v = (u - anchors[r, 0]) * factor[r, 0, 0] - w + start
            v = min(max(v, low), high)
            below = add_logs(left[r], log_mass(low, v, start, level))
            above = add_logs(right[r + 1], log_mass(v, high, start, level))
            total = add_logs(below, above)
            log_below[p, n] = below - total
            log_above[p, n] = above - total


@njit(cache=True, nogil=True)
def invert_mass(low, high, start, level, target):
    """Find v with log mass of [low, v] equal to a target, by Newton steps in a bracket.

    The log mass is concave in v, so that Newton's steps never pass the root from the left.
    """
    a, b = max(low, start - FARTHEST), min(high, start + FARTHEST)
    v = min(max(start, a), b)
    for _ in range(200):
        mass = log_mass(low, v, start, level)
        if mass > target:
            b = v
        else:
            a = v
        slope = exp(level - 0.5 * (v - start) * (v + start) - LOG_ROOT_2PI - mass)
        new = v - (mass - target) / slope if 0.0 < slope < inf else a
        if not a < new < b:
            new = 0.5 * (a + b)
        if abs(new - v) <= 2e-16 * abs(v) or new in (a, b):
            return new
        v = new
    return v


@njit(cache=True, nogil=True)
def quantiles(begin, end, log_below, log_above, y, geometry, out):
    """Points with given probabilities below and above; the smaller of the two is matched.

    Args:
        begin: First datum to work on.
        end: Datum to stop before.
        log_below: Log probability below, ``(P, N)``.
        log_above: Log probability above, ``(P, N)``.
        y: Reduced data, ``(N, D')``.
        geometry: Values, anchors, basis, factor, log_det and corners.
        out: Receives whitened points, ``(P, N)``.
    """
    anchors, factor = geometry[1], geometry[3]
    regions = len(anchors)
    table, left, right = np.empty((regions, 5)), np.empty(regions + 1), np.empty(regions + 1)
    for n in range(begin, end):
        place_pieces(y[n], *geometry, table, left, right)
        for p in range(log_below.shape[0]):
            if log_below[p, n] == -inf or log_above[p, n] == -inf:
                out[p, n] = -inf if log_below[p, n] == -inf else inf
                continue
            if log_below[p, n] <= log_above[p, n]:
                target = log_below[p, n] + left[regions]
                r = 0
                while r < regions - 1 and left[r + 1] < target:
                    r += 1
                rest = target + log1p(-exp(min(left[r] - target, -1e-300)))
                v = invert_mass(table[r, 2], table[r, 3], table[r, 1], table[r, 0], rest)
            else:
                target = log_above[p, n] + right[0]
                r = regions - 1
                while r > 0 and right[r] < target:
                    r -= 1
                rest = target + log1p(-exp(min(right[r + 1] - target, -1e-300)))
                v = -invert_mass(-table[r, 3], -table[r, 2], -table[r, 1], table[r, 0], rest)
            out[p, n] = anchors[r, 0] + (table[r, 4] + (v - table[r, 1])) / factor[r, 0, 0]
