r"""Compiled slicing quadrature for the moments of N(0, I) on a convex polygon.

The u axis points to the polygon's point p* nearest to 0. Slices of constant tangential
coordinate s are integrated in closed form (or by a positive sum) over u, and 24-point
Gauss-Legendre runs over s between vertices. Every term is positive, so that far polygons and
slivers keep their relative accuracy. All is scaled by exp(|p*|^2/2).
"""

# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import exp, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.special import (
    INVERSE_ROOT_2PI,
    NODES_24,
    REACH,
    WEIGHTS_24,
    interval_moments,
)

# An edge is upright, up to rounding, if it spans no more of s than this share of its place.
UPRIGHT = 4e-15


@njit(cache=True, nogil=True)
def slicing_axis(x, y, size, px, py):
    """Unit vector of the u axis: towards p*, or across the polygon's longest chord if p* = 0."""
    distance = sqrt(px * px + py * py)
    if distance > 0.0:
        return px / distance, py / distance, distance
    best, ax, ay = -1.0, 1.0, 0.0
    for i in range(size):
        for j in range(i):
            dx, dy = x[i] - x[j], y[i] - y[j]
            square = dx * dx + dy * dy
            if square > best:
                best, ax, ay = square, dx, dy
    length = sqrt(best)
    return -ay / length, ax / length, 0.0


@njit(cache=True, nogil=True)
def turn(x, y, size, ax, ay, s, u):
    """Write the vertices in slicing coordinates: u along (ax, ay), s across, counter-clockwise."""
    for i in range(size):
        s[i] = ay * x[i] - ax * y[i]
        u[i] = ax * x[i] + ay * y[i]


@njit(cache=True, nogil=True)
def window(s, u, size, square):
    """Range of s over the part of the polygon within the radius sqrt(square + REACH) of 0."""
    radius2 = square + REACH
    radius = sqrt(radius2)
    low, high = 1e300, -1e300
    left, right = True, True
    for i in range(size):
        j = i + 1 if i + 1 < size else 0
        if s[i] * s[i] + u[i] * u[i] <= radius2:
            low, high = min(low, s[i]), max(high, s[i])
        ds, du = s[j] - s[i], u[j] - u[i]
        a = ds * ds + du * du
        b = s[i] * ds + u[i] * du
        c = s[i] * s[i] + u[i] * u[i] - radius2
        root = b * b - a * c
        if root > 0.0 and a > 0.0:
            root = sqrt(root)
            for t in ((-b - root) / a, (-b + root) / a):
                if 0.0 < t < 1.0:
                    low, high = min(low, s[i] + t * ds), max(high, s[i] + t * ds)
        # are the circle's extreme points (-radius, 0), (radius, 0) inside the polygon?
        if ds * (0.0 - u[i]) - du * (-radius - s[i]) < 0.0:
            left = False
        if ds * (0.0 - u[i]) - du * (radius - s[i]) < 0.0:
            right = False
    if left:
        low = -radius
    if right:
        high = radius
    return low, high


@njit(cache=True, nogil=True)
def span(s, u, size, at):
    """Lines u = a + b s that bound the polygon from below and above near a given s."""
    a0, b0, a1, b1 = 0.0, 0.0, 0.0, 0.0
    for i in range(size):
        j = i + 1 if i + 1 < size else 0
        if s[i] <= at < s[j]:
            if s[j] - s[i] <= UPRIGHT * (abs(s[i]) + abs(u[i])):
                a0, b0 = max(u[i], u[j]), 0.0
            else:
                b0 = (u[j] - u[i]) / (s[j] - s[i])
                a0 = u[i] - b0 * s[i] if abs(s[i]) < abs(s[j]) else u[j] - b0 * s[j]
        elif s[j] <= at < s[i]:
            if s[i] - s[j] <= UPRIGHT * (abs(s[i]) + abs(u[i])):
                a1, b1 = min(u[i], u[j]), 0.0
            else:
                b1 = (u[j] - u[i]) / (s[j] - s[i])
                a1 = u[i] - b1 * s[i] if abs(s[i]) < abs(s[j]) else u[j] - b1 * s[j]
    return a0, b0, a1, b1


@njit(cache=True, nogil=True)
def slice_moments(x, y, size, px, py):
    """Mass, first and second moments about p*, times exp(|p*|^2 / 2).

    Args:
        x: Abscissae of the vertices, counter-clockwise; the first ``size`` count.
        y: Ordinates.
        size: Number of vertices.
        px: Abscissa of the polygon's point nearest to 0.
        py: Its ordinate.

    Returns:
        P, two first and three second moments (xx, xy, yy).
    """
    ax, ay, distance = slicing_axis(x, y, size, px, py)
    s, u = np.empty(size), np.empty(size)
    turn(x, y, size, ax, ay, s, u)
    square = distance * distance
    low, high = window(s, u, size, square)
    mass, m_s, m_u, m_ss, m_su, m_uu = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if low < high:
        cuts = np.empty(size + 3)
        number = 0
        cuts[0], cuts[1] = low, high
        number = 2
        if low < 0.0 < high:
            cuts[number] = 0.0
            number += 1
        for i in range(size):
            if low < s[i] < high:
                cuts[number] = s[i]
                number += 1
        for i in range(1, number):
            for j in range(i, 0, -1):
                if cuts[j] < cuts[j - 1]:
                    cuts[j - 1], cuts[j] = cuts[j], cuts[j - 1]
        thick = 0.5 * REACH / max(distance, 4.0)
        for k in range(number - 1):
            left, right = cuts[k], cuts[k + 1]
            middle = 0.5 * (left + right)
            if not left < middle < right:
                continue
            a0, b0, a1, b1 = span(s, u, size, middle)
            # a thin end of the slab is a boundary layer of its own
            slope = b1 - b0
            inner = left
            if slope != 0.0:
                where = (thick - (a1 - a0)) / slope
                if left < where < right:
                    inner = where
            for panel in range(2):
                begin = left if panel == 0 else inner
                end = inner if panel == 0 else right
                if not end > begin:
                    continue
                length = end - begin
                for node, weight in zip(NODES_24, WEIGHTS_24):  # noqa: B905
                    at = begin + length * node
                    bottom = a0 + b0 * at
                    ceiling = max(a1 + b1 * at, bottom)
                    base, i0, i1, i2 = interval_moments(bottom, ceiling)
                    f = at * at + (base - distance) * (base + distance)
                    f = weight * length * exp(-0.5 * f) * INVERSE_ROOT_2PI
                    off = base - distance
                    i2 += (2 * i1 + off * i0) * off
                    i1 += off * i0
                    mass += f * i0
                    m_s += f * at * i0
                    m_u += f * i1
                    m_ss += f * at * at * i0
                    m_su += f * at * i1
                    m_uu += f * i2
    return (
        mass,
        ay * m_s + ax * m_u,
        -ax * m_s + ay * m_u,
        ay * ay * m_ss + 2 * ax * ay * m_su + ax * ax * m_uu,
        -ax * ay * m_ss + (ay * ay - ax * ax) * m_su + ax * ay * m_uu,
        ax * ax * m_ss - 2 * ax * ay * m_su + ay * ay * m_uu,
    )
