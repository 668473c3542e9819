r"""Compiled slicing quadrature for the moments of N(0, I) on a convex polyhedron.

The u axis points to the polyhedron's point p* nearest to 0. Slices across a tangential direction
s, the one in which the polyhedron is longest, are convex polygons, whose scaled moments
:mod:`pyrolvm.exact.slice_moments` gives; an adaptive Gauss-Kronrod rule runs over s between the
vertices:

.. math:: \int_P \phi(w) \, dw = \int \phi(s) \int_{P_s} \phi_2(x, u) \, dx \, du \, ds .

Every term is positive, so that far polyhedra and slivers keep their relative accuracy. All is
scaled by exp(|p*|^2/2).

References:
    Piessens et al. (1983), QUADPACK (rule of 7 and 15 points, error estimate).
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import exp

import numpy as np
from numba import njit

from pyrolvm.exact.edge_moments import nearest_point
from pyrolvm.exact.polytopes.polyhedron_frame import (
    cut_slice,
    find_slice,
    slicing_frame,
    slicing_range,
    turn_moments,
    turn_points,
)
from pyrolvm.exact.slice_moments import slice_moments
from pyrolvm.exact.special import INVERSE_ROOT_2PI

# Kronrod's nodes on [-1, 1] and weights, from the end to the middle; every other one is Gauss's.
KRONROD_NODES = np.array([
    0.991455371120812639206854697526329, 0.949107912342758524526189684047851,
    0.864864423359769072789712788640926, 0.741531185599394439863864773280788,
    0.586087235467691130294144691693013, 0.405845151377397166906606412076961,
    0.207784955007898467600689403773245, 0.0,
])  # fmt: skip
KRONROD_WEIGHTS = np.array([
    0.022935322010529224963732008058970, 0.063092092629978553290700663189204,
    0.104790010322250183839876322541518, 0.140653259715525918745189590510238,
    0.169004726639267902826583426598550, 0.190350578064785409913256402421014,
    0.204432940075298892414161999234649, 0.209482141084727828012999174891714,
])  # fmt: skip
GAUSS_WEIGHTS = np.array([
    0.0, 0.129484966168869693270611432679082, 0.0, 0.279705391489276667901467771423780,
    0.0, 0.381830050505118944950369775488975, 0.0, 0.417959183673469387755102040816327,
])  # fmt: skip
TOLERANCE = 1e-14
MAX_PANELS = 400
# A panel is as good as rounding allows if halving it leaves this share of its estimated error
# and changes its mass by less than this share.
STALLED, ROUNDING = 0.25, 1e-6


@njit(cache=True, nogil=True)
def add_slice(x, u, size, at, distance, weight, sums):
    """Add a slice's scaled moments about p*, in slicing coordinates (s, x, u), to ``sums``.

    Returns:
        The slice's mass, without the weight.
    """
    p_x, p_u, _ = nearest_point(x, u, size)
    mass, m_x, m_u, m_xx, m_xu, m_uu = slice_moments(x, u, size, p_x, p_u)
    deep = p_u - distance
    f = exp(-0.5 * (at * at + p_x * p_x + deep * (p_u + distance))) * INVERSE_ROOT_2PI
    whole = f * mass
    f *= weight
    mass *= f
    m_uu = f * (m_uu + 2 * deep * m_u) + mass * deep * deep
    m_xu = f * (m_xu + p_x * m_u + deep * m_x) + mass * p_x * deep
    m_xx = f * (m_xx + 2 * p_x * m_x) + mass * p_x * p_x
    m_x = f * m_x + mass * p_x
    m_u = f * m_u + mass * deep
    sums[0] += mass
    sums[1] += at * mass
    sums[2] += m_x
    sums[3] += m_u
    sums[4] += at * at * mass
    sums[5] += at * m_x
    sums[6] += at * m_u
    sums[7] += m_xx
    sums[8] += m_xu
    sums[9] += m_uu
    return whole


@njit(cache=True, nogil=True)
def slab(turned, ends, number, facets, distance, low, high, ring, next_edge, start, x, u, sums):
    """Integrate between two slices with no vertex between them by Kronrod's rule.

    Returns:
        Estimated error of the mass.
    """
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    for k in range(10):
        sums[k] = 0.0
    size = find_slice(turned, ends, number, facets, middle, ring, next_edge, start)
    if size < 3:
        return 0.0
    coarse = 0.0
    for k in range(15):
        m = k if k < 8 else 14 - k
        at = middle + (half * KRONROD_NODES[m] if k < 7 else -half * KRONROD_NODES[m])
        if cut_slice(turned, ends, ring, size, at, distance, x, u):
            mass = add_slice(x, u, size, at, distance, half * KRONROD_WEIGHTS[m], sums)
            coarse += half * GAUSS_WEIGHTS[m] * mass
    difference = abs(coarse - sums[0])
    if sums[0] <= 0.0:
        return 0.0
    return sums[0] * min(1.0, (200.0 * difference / sums[0]) ** 1.5)


@njit(cache=True, nogil=True)
def cut_range(turned, size, low, high, left, right):
    """Cut the range of s at the vertices and at p*; returns the number of panels."""
    cuts = np.empty(size + 3)
    cuts[0], cuts[1] = low, high
    number = 2
    for i in range(size + 1):
        s = turned[i, 0] if i < size else 0.0
        if low < s < high and number < MAX_PANELS // 2:
            j = number
            number += 1
            cuts[j] = s
    for i in range(1, number):
        for j in range(i, 0, -1):
            if cuts[j] < cuts[j - 1]:
                cuts[j - 1], cuts[j] = cuts[j], cuts[j - 1]
    panels = 0
    for i in range(number - 1):
        if cuts[i] < cuts[i + 1]:
            left[panels], right[panels] = cuts[i], cuts[i + 1]
            panels += 1
    return panels


@njit(cache=True, nogil=True)
def polyhedron_slices(points, size, ends, number, facets, near, out):
    """Mass, first and second moments about p*, times exp(|p*|^2 / 2).

    Args:
        points: Vertices; the first ``size`` count.
        size: Number of vertices.
        ends: From :func:`~pyrolvm.exact.polytopes.polyhedron_flags.trace_flags`.
        number: Number of flags.
        facets: Number of facets.
        near: p*, the polyhedron's point nearest to 0, ``(3,)``.
        out: Receives P, three first and six second moments (xx, xy, xz, yy, yz, zz).
    """
    frame, turned = np.empty((3, 3)), np.empty((size, 3))
    distance = slicing_frame(points, size, near, frame)
    turn_points(points, size, near, frame, turned)
    low, high = slicing_range(turned, size, ends, number, distance)
    for k in range(10):
        out[k] = 0.0
    if not low < high:
        return
    ring, next_edge = np.empty(number, np.int64), np.empty(number, np.int64)
    start = np.empty(facets, np.int64)
    x, u = np.empty(number), np.empty(number)
    left, right = np.empty(MAX_PANELS), np.empty(MAX_PANELS)
    error, parts = np.empty(MAX_PANELS), np.empty((MAX_PANELS, 10))
    panels = cut_range(turned, size, low, high, left, right)
    total, doubt = 0.0, 0.0
    for k in range(panels):
        error[k] = slab(
            turned, ends, number, facets, distance, left[k], right[k], ring, next_edge, start,
            x, u, parts[k],
        )  # fmt: skip
        total += parts[k, 0]
        doubt += error[k]
    while panels < MAX_PANELS and doubt > TOLERANCE * total:
        worst = 0
        for k in range(panels):
            if error[k] > error[worst]:
                worst = k
        right[panels] = right[worst]
        middle = 0.5 * (left[worst] + right[worst])
        if not left[worst] < middle < right[worst]:
            break
        right[worst] = left[panels] = middle
        before, feared = parts[worst, 0], error[worst]
        total -= before
        for k in (worst, panels):
            error[k] = slab(
                turned, ends, number, facets, distance, left[k], right[k], ring, next_edge,
                start, x, u, parts[k],
            )  # fmt: skip
            total += parts[k, 0]
        change = abs(parts[worst, 0] + parts[panels, 0] - before)
        if error[worst] + error[panels] > STALLED * feared and change < ROUNDING * before:
            # halving no longer helps: what is left is rounding
            error[worst], error[panels] = 0.0, 0.0
        panels += 1
        doubt = 0.0
        for k in range(panels):
            doubt += error[k]
    sums = np.zeros(10)
    for k in range(panels):
        for m in range(10):
            sums[m] += parts[k, m]
    turn_moments(sums, frame, out)
