r"""Compiled frames: rotated coordinates of a polytope, and what is left of it on a slice.

The first S - 2 coordinates are integrated by a lattice. Their ranges come from the known
vertices: the projection of the polytope on any two coordinates is the convex hull of its
projected vertices, so that coordinate k, given an earlier one, lies between two chains of that
hull. The last two coordinates are left to a polygon, which all facets cut: nothing is lost by a
range that is too wide.

References:
    Andrew (1979), Another efficient algorithm for convex hulls in two dimensions.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912 - compiled loops are one body

from __future__ import annotations

from math import log, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.special import interval_moments

# Directions that facets repeat up to this sine are not taken twice.
PARALLEL = 1e-3


@njit(cache=True, nogil=True)
def extent(points, size, direction):
    """Smallest and largest coordinate of the points along a direction."""
    low, high = 1e300, -1e300
    for i in range(size):
        at = 0.0
        for k in range(direction.shape[0]):
            at += points[i, k] * direction[k]
        low, high = min(low, at), max(high, at)
    return low, high


@njit(cache=True, nogil=True)
def binding_order(normals, offsets, facets, points, size, active, frame, picks):
    """Orthonormal directions, most binding facet first.

    Facets that are active at the point nearest to 0 come before all others. Among them, each step
    takes the facet whose normal, less its part along the directions so far, leaves the
    least mass to a normal variable between that facet and the farthest vertex.

    Args:
        normals: Outward unit normals; the first ``facets`` rows count.
        offsets: Their offsets around the Gaussian's mean.
        facets: Number of facets.
        points: Vertices around the Gaussian's mean; the first ``size`` rows count.
        size: Number of vertices.
        active: The active facets.
        frame: Receives the directions as rows, ``(S, S)``.
        picks: Receives the facet of each direction, ``(S,)``; -1 if only nearly parallel ones
            were left.
    """
    dim = normals.shape[1]
    rest = np.empty((facets, dim))
    room = np.empty(facets)
    ahead = np.zeros(facets, np.bool_)
    for a in range(active.shape[0]):
        ahead[active[a]] = True
    for j in range(facets):
        room[j] = offsets[j]
        for k in range(dim):
            rest[j, k] = normals[j, k]
    direction = np.empty(dim)
    for step in range(dim):
        best, best_mass, mean, longest = -1, 0.0, 0.0, 0.0
        first = step < active.shape[0]
        for j in range(facets):
            if first and not ahead[j]:
                continue
            square = 0.0
            for k in range(dim):
                square += rest[j, k] * rest[j, k]
            norm = sqrt(square)
            if norm <= min(longest, PARALLEL):
                continue
            for k in range(dim):
                direction[k] = rest[j, k] / norm
            low, high = extent(points, size, direction)
            high = min(high, room[j] / norm)
            low = min(low, high - 1e-9 * (1.0 + abs(high)))
            base, m0, m1, _ = interval_moments(low, high)
            mass = log(m0) - 0.5 * base * base if m0 > 0.0 else -1e300
            if norm < PARALLEL or longest < PARALLEL or mass < best_mass:
                best, best_mass = j, mass
                mean = base + m1 / m0 if m0 > 0.0 else base
            longest = max(longest, norm)
        square = 0.0
        for k in range(dim):
            frame[step, k] = rest[best, k]
        # again, against rounding
        for i in range(step):
            along = 0.0
            for k in range(dim):
                along += frame[step, k] * frame[i, k]
            for k in range(dim):
                frame[step, k] -= along * frame[i, k]
        for k in range(dim):
            square += frame[step, k] * frame[step, k]
        for k in range(dim):
            frame[step, k] /= sqrt(square)
        ahead[best] = False
        picks[step] = best if longest >= PARALLEL else -1
        for j in range(facets):
            along = 0.0
            for k in range(dim):
                along += rest[j, k] * frame[step, k]
            room[j] -= along * mean
            for k in range(dim):
                rest[j, k] -= along * frame[step, k]


@njit(cache=True, nogil=True)
def rotate(rows, size, frame, out):
    """Coordinates of the first ``size`` rows in a frame."""
    dim = frame.shape[0]
    for i in range(size):
        for k in range(dim):
            total = 0.0
            for d in range(dim):
                total += rows[i, d] * frame[k, d]
            out[i, k] = total


@njit(cache=True, nogil=True)
def half_hull(x, y, order, size, sign, chain):
    """Lower (sign 1) or upper (sign -1) chain of the convex hull, by increasing x.

    Returns:
        Number of points written to ``chain``.
    """
    used = 0
    for turn in range(size):
        i = order[turn]
        px, py = x[i], sign * y[i]
        while used >= 2:
            ax, ay = chain[used - 2, 0], chain[used - 2, 1]
            bx, by = chain[used - 1, 0], chain[used - 1, 1]
            if (bx - ax) * (py - ay) - (by - ay) * (px - ax) > 0.0:
                break
            used -= 1
        if used == 1 and chain[0, 0] == px:
            chain[0, 1] = min(chain[0, 1], py)
            continue
        chain[used, 0], chain[used, 1] = px, py
        used += 1
    for i in range(used):
        chain[i, 1] *= sign
    return used


@njit(cache=True, nogil=True)
def project_hulls(points, size, outer, chains, lengths):
    """Hulls of the projections on all pairs of outer coordinates.

    Args:
        points: Rotated vertices.
        size: Their number.
        outer: Number of outer coordinates.
        chains: Receives lower and upper chains, ``(pairs, 2, V, 2)``.
        lengths: Receives their numbers of points, ``(pairs, 2)``.
    """
    pair = 0
    for i in range(outer - 1):
        order = np.argsort(points[:size, i])
        for k in range(i + 1, outer):
            for side in range(2):
                sign = 1.0 if side == 0 else -1.0
                lengths[pair, side] = half_hull(
                    points[:, i], points[:, k], order, size, sign, chains[pair, side]
                )
            pair += 1


@njit(cache=True, nogil=True)
def along(chain, length, at):
    """Ordinate of a chain at an abscissa."""
    if length == 1 or at <= chain[0, 0]:
        return chain[0, 1]
    for i in range(1, length):
        if at <= chain[i, 0]:
            width = chain[i, 0] - chain[i - 1, 0]
            share = (at - chain[i - 1, 0]) / width if width > 0.0 else 0.0
            return chain[i - 1, 1] + share * (chain[i, 1] - chain[i - 1, 1])
    return chain[length - 1, 1]


@njit(cache=True, nogil=True)
def outer_range(k, point, outer, turned, offsets, picks, box, chains, lengths):
    """Range of outer coordinate k given those before; empty ranges come back as one point."""
    low, high = box[k, 0], box[k, 1]
    j = picks[k]
    if k > 1 and j >= 0:
        room = offsets[j]
        for i in range(k):
            room -= turned[j, i] * point[i]
        high = min(high, room / turned[j, k])
    for i in range(k):
        pair = i * (2 * outer - i - 1) // 2 + k - i - 1
        low = max(low, along(chains[pair, 0], lengths[pair, 0], point[i]))
        high = min(high, along(chains[pair, 1], lengths[pair, 1], point[i]))
    return low, max(low, high)


@njit(cache=True, nogil=True)
def slice_polygon(point, outer, normals, offsets, facets, box, x, y, spare_x, spare_y):
    """Cut the polygon that a polytope leaves to its last two coordinates.

    Args:
        point: The outer coordinates.
        outer: Their number.
        normals: Rotated normals.
        offsets: Offsets.
        facets: Number of facets.
        box: Extent of each coordinate, ``(S, 2)``.
        x: Receives the vertices, counter-clockwise.
        y: Receives the vertices.
        spare_x: Work space.
        spare_y: Work space.

    Returns:
        Number of vertices; 0 if the slice is empty.
    """
    x[0], y[0] = box[outer, 0], box[outer + 1, 0]
    x[1], y[1] = box[outer, 1], box[outer + 1, 0]
    x[2], y[2] = box[outer, 1], box[outer + 1, 1]
    x[3], y[3] = box[outer, 0], box[outer + 1, 1]
    size = 4
    for j in range(facets):
        a, b = normals[j, outer], normals[j, outer + 1]
        room = offsets[j]
        for k in range(outer):
            room -= normals[j, k] * point[k]
        cut = False
        for i in range(size):
            spare_x[i] = a * x[i] + b * y[i] - room
            if spare_x[i] > 0.0:
                cut = True
        if not cut:
            continue
        # spare_x holds heights until new vertices are written behind them
        used = 0
        offset = spare_x.shape[0] // 2
        for i in range(size):
            k = i + 1 if i + 1 < size else 0
            h_i, h_k = spare_x[i], spare_x[k]
            if h_i <= 0.0:
                spare_x[offset + used], spare_y[offset + used] = x[i], y[i]
                used += 1
            if (h_i < 0.0 < h_k) or (h_k < 0.0 < h_i):
                share = h_i / (h_i - h_k)
                spare_x[offset + used] = x[i] + share * (x[k] - x[i])
                spare_y[offset + used] = y[i] + share * (y[k] - y[i])
                used += 1
        size = used
        if size < 3:
            return 0
        for i in range(size):
            x[i], y[i] = spare_x[offset + i], spare_y[offset + i]
    return size
