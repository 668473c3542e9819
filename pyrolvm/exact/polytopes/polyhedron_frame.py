"""Compiled slices of a convex polyhedron: the frame of coordinates, and the polygons cut.

The u axis points to the polyhedron's point p* nearest to 0. Slices lie across a tangential
direction s, the one in which the polyhedron is longest.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912 - compiled loops are one body

from __future__ import annotations

from math import sqrt

from numba import njit

from pyrolvm.exact.special import REACH


@njit(cache=True, nogil=True)
def slicing_frame(points, size, near, frame):
    """Write the unit vectors of s, of the third axis, and of u, right-handed, to ``frame``.

    u points to the nearest point; s follows the longest chord across u. With 0 inside, s follows
    the longest chord of all.

    Returns:
        Distance of the nearest point.
    """
    distance = sqrt(near[0] * near[0] + near[1] * near[1] + near[2] * near[2])
    for d in range(3):
        frame[2, d] = near[d] / distance if distance > 0.0 else 0.0
    reach = sqrt(distance * distance + REACH)
    longest = -1.0
    for i in range(size):
        for j in range(i):
            square, along = 0.0, 0.0
            for d in range(3):
                difference = points[i, d] - points[j, d]
                square += difference * difference
                along += difference * frame[2, d]
            square -= along * along
            # chords are no longer than what the density sees of them
            along = 1.0 + abs(along) / max(reach - distance, 1e-3)
            if square > longest * along * along:
                longest = square / (along * along)
                for d in range(3):
                    frame[0, d] = points[i, d] - points[j, d]
    for _ in range(2):
        along, square = 0.0, 0.0
        for d in range(3):
            along += frame[0, d] * frame[2, d]
        for d in range(3):
            frame[0, d] -= along * frame[2, d]
            square += frame[0, d] * frame[0, d]
        if square <= 0.0:
            # all on one line through 0: any direction across will do
            least = 0
            for d in range(1, 3):
                if abs(frame[2, d]) < abs(frame[2, least]):
                    least = d
            for d in range(3):
                frame[0, d] = 1.0 if d == least else 0.0
            continue
        square = sqrt(square)
        for d in range(3):
            frame[0, d] /= square
    if distance == 0.0:
        # u: any direction across s
        least = 0
        for d in range(1, 3):
            if abs(frame[0, d]) < abs(frame[0, least]):
                least = d
        square = sqrt(1.0 - frame[0, least] * frame[0, least])
        for d in range(3):
            frame[2, d] = -frame[0, least] * frame[0, d] / square
        frame[2, least] += 1.0 / square
    for d in range(3):
        e, f = (d + 1) % 3, (d + 2) % 3
        frame[1, d] = frame[2, e] * frame[0, f] - frame[2, f] * frame[0, e]
    return distance


@njit(cache=True, nogil=True)
def turn_points(points, size, near, frame, turned):
    """Write the vertices relative to the nearest point, in slicing coordinates."""
    for i in range(size):
        for k in range(3):
            turned[i, k] = 0.0
            for d in range(3):
                turned[i, k] += frame[k, d] * (points[i, d] - near[d])


@njit(cache=True, nogil=True)
def turn_moments(sums, frame, out):
    """Turn moments from slicing coordinates to those of the vertices."""
    out[0] = sums[0]
    for d in range(3):
        out[1 + d] = 0.0
        for k in range(3):
            out[1 + d] += frame[k, d] * sums[1 + k]
    place = 4
    for d in range(3):
        for e in range(d, 3):
            total, index = 0.0, 4
            for k in range(3):
                for m in range(k, 3):
                    both = frame[k, d] * frame[m, e]
                    if m > k:
                        both += frame[m, d] * frame[k, e]
                    total += both * sums[index]
                    index += 1
            out[place] = total
            place += 1


@njit(cache=True, nogil=True)
def slicing_range(turned, size, ends, number, distance):
    """Range of s over the part of the polyhedron that the density can see."""
    depth = REACH / (distance + sqrt(distance * distance + REACH))
    low, high = 1e300, -1e300
    for i in range(size):
        if turned[i, 2] <= depth:
            low, high = min(low, turned[i, 0]), max(high, turned[i, 0])
    for k in range(number):
        i, j = ends[k, 0], ends[k, 1]
        if turned[i, 2] <= depth < turned[j, 2] or turned[j, 2] <= depth < turned[i, 2]:
            share = (depth - turned[i, 2]) / (turned[j, 2] - turned[i, 2])
            s = turned[i, 0] + share * (turned[j, 0] - turned[i, 0])
            low, high = min(low, s), max(high, s)
    side = sqrt(REACH)
    return max(low, -side), min(high, side)


@njit(cache=True, nogil=True)
def find_slice(turned, ends, number, facets, at, ring, next_edge, start):
    """Find the edges that a slice cuts, in order around it.

    Args:
        turned: Vertices in slicing coordinates.
        ends: Vertices, facet and twin of each flag.
        number: Number of flags.
        facets: Number of facets.
        at: Where to slice; no vertex lies there.
        ring: Receives the flags that are cut on the way up, in order.
        next_edge: Work space, one entry a flag.
        start: Work space, one entry a facet.

    Returns:
        Number of edges cut.
    """
    # within a facet, the slice runs from the edge cut on the way up to that cut on the way down
    for a in range(facets):
        start[a] = -1
    first = -1
    for k in range(number):
        if turned[ends[k, 0], 0] < at <= turned[ends[k, 1], 0]:
            start[ends[k, 2]] = k
            first = k
    for k in range(number):
        if turned[ends[k, 1], 0] < at <= turned[ends[k, 0], 0]:
            up = start[ends[k, 2]]
            if up >= 0:
                next_edge[up] = ends[k, 3]
    size, edge = 0, first
    while edge >= 0:
        ring[size] = edge
        size += 1
        edge = next_edge[edge]
        if edge == first or size == facets:
            break
    return size


@njit(cache=True, nogil=True)
def cut_slice(turned, ends, ring, size, at, distance, x, u):
    """Write a slice's polygon, counter-clockwise in the plane of the third axis and u.

    Returns:
        Whether it has an area.
    """
    for k in range(size):
        i, j = ends[ring[k], 0], ends[ring[k], 1]
        rise = turned[j, 0] - turned[i, 0]
        if at - turned[i, 0] <= turned[j, 0] - at:
            share, base = (at - turned[i, 0]) / rise, i
        else:
            share, base = (at - turned[j, 0]) / rise, j
        x[k] = turned[base, 1] + share * (turned[j, 1] - turned[i, 1])
        u[k] = distance + (turned[base, 2] + share * (turned[j, 2] - turned[i, 2]))
    area = 0.0
    for k in range(1, size - 1):
        area += (x[k] - x[0]) * (u[k + 1] - u[0]) - (x[k + 1] - x[0]) * (u[k] - u[0])
    if area < 0.0:
        for k in range(size // 2):
            x[k], x[size - 1 - k] = x[size - 1 - k], x[k]
            u[k], u[size - 1 - k] = u[size - 1 - k], u[k]
    return area != 0.0
