"""Compiled geometry of a convex polyhedron around 0: heights of facets and edges, nearest point.

A flag is a facet with one of its edges, run through counter-clockwise as seen from outside. Seen
from 0, the facet's plane has the signed height h, and within that plane the edge's line has the
signed distance b from the plane's foot; both are positive where 0 lies on the inner side. Along
the edge, t is measured from the foot of 0, so that a point has the squared radius h^2 + b^2 + t^2.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import njit

# Columns of the table of flags: b, both ends t, unit vector along the edge.
FLAG_COLUMNS = 6


@njit(cache=True, nogil=True)
def largest_sizes(count, facet_first, facet_count, corner_count):
    """Most vertices, facets and flags of any one region."""
    vertices, facets, flags = 1, 1, 1
    for r in range(count.shape[0]):
        vertices = max(vertices, count[r])
        facets = max(facets, facet_count[r])
        total = 0
        for f in range(facet_first[r], facet_first[r] + facet_count[r]):
            total += corner_count[f]
        flags = max(flags, total)
    return vertices, facets, flags


@njit(cache=True, nogil=True)
def make_tables(vertices, facets, flags):
    """Allocate the work space of :func:`trace_flags`.

    Returns:
        Points ``(vertices, 3)``; flags ``(flags, 6)``; ends ``(flags, 4)``: both vertices, facet
        and twin flag; planes ``(facets, 2)``: height, and squared distance of the foot from the
        facet within its plane; a table of vertex pairs.
    """
    return (
        np.empty((vertices, 3)),
        np.empty((flags, FLAG_COLUMNS)),
        np.empty((flags, 4), np.int64),
        np.empty((facets, 2)),
        np.zeros((vertices, vertices), np.int64),
    )


@njit(cache=True, nogil=True)
def trace_flags(
    points, size, begin, facets, normals, corner_first, corner_count, corners, flags, ends, planes,
    pairs,
):  # fmt: skip
    """Write a polyhedron's flags and planes, and find its point nearest to 0.

    Flags of edges without length are left out. The twin of a flag is the same edge in the
    neighbouring facet, -1 where there is none.

    Args:
        points: Vertices; the first ``size`` count.
        size: Number of vertices.
        begin: The polyhedron's first facet.
        facets: Number of its facets.
        normals: Outward unit normals of all facets.
        corner_first: First corner of each facet.
        corner_count: Number of its corners.
        corners: Vertices of the facets, counter-clockwise as seen from outside.
        flags: Table to write, likewise the others, see :func:`make_tables`.
        ends: Vertices, facet and twin of each flag.
        planes: Height of each facet, and how far outside of it its foot lies, squared.
        pairs: Work space.

    Returns:
        Number of flags, and the coordinates of the nearest point: 0 if 0 is inside.
    """
    number = 0
    best, near_x, near_y, near_z = 1e300, 0.0, 0.0, 0.0
    outside = False
    for a in range(facets):
        f = begin + a
        n_x, n_y, n_z = normals[f, 0], normals[f, 1], normals[f, 2]
        first, sides = corner_first[f], corner_count[f]
        height, closest = 0.0, 1e300
        gap, g_x, g_y, g_z = 1e300, 0.0, 0.0, 0.0
        within, begun = True, number
        for c in range(sides):
            i = corners[first + c]
            j = corners[first + c + 1 if c + 1 < sides else first]
            x, y, z = points[i, 0], points[i, 1], points[i, 2]
            r_i = x * x + y * y + z * z
            if r_i < closest:
                closest = r_i
                height = n_x * x + n_y * y + n_z * z
            t_x, t_y, t_z = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
            length = sqrt(t_x * t_x + t_y * t_y + t_z * t_z)
            if length == 0.0:
                continue
            t_x, t_y, t_z = t_x / length, t_y / length, t_z / length
            m_x, m_y, m_z = (
                t_y * n_z - t_z * n_y,
                t_z * n_x - t_x * n_z,
                t_x * n_y - t_y * n_x,
            )
            x2, y2, z2 = points[j, 0], points[j, 1], points[j, 2]
            if r_i <= x2 * x2 + y2 * y2 + z2 * z2:
                b = m_x * x + m_y * y + m_z * z
                t1 = t_x * x + t_y * y + t_z * z
                t2 = t1 + length
                foot_x, foot_y, foot_z = x - t1 * t_x, y - t1 * t_y, z - t1 * t_z
            else:
                b = m_x * x2 + m_y * y2 + m_z * z2
                t2 = t_x * x2 + t_y * y2 + t_z * z2
                t1 = t2 - length
                foot_x, foot_y, foot_z = x2 - t2 * t_x, y2 - t2 * t_y, z2 - t2 * t_z
            flags[number, 0], flags[number, 1], flags[number, 2] = b, t1, t2
            flags[number, 3], flags[number, 4], flags[number, 5] = t_x, t_y, t_z
            ends[number, 0], ends[number, 1], ends[number, 2], ends[number, 3] = i, j, a, -1
            pairs[i, j] = number
            twin = pairs[j, i]
            if twin < number and ends[twin, 0] == j and ends[twin, 1] == i and ends[twin, 3] < 0:
                ends[number, 3], ends[twin, 3] = twin, number
            number += 1
            if b < 0.0:
                within = False
                if t1 >= 0.0:
                    reach = t1
                    foot_x, foot_y, foot_z = x, y, z
                elif t2 <= 0.0:
                    reach = t2
                    foot_x, foot_y, foot_z = x2, y2, z2
                else:
                    reach = 0.0
                if b * b + reach * reach < gap:
                    gap = b * b + reach * reach
                    g_x, g_y, g_z = foot_x, foot_y, foot_z
        if number == begun:
            planes[a, 0], planes[a, 1] = 1e300, 1e300
            continue
        if within:
            gap, g_x, g_y, g_z = 0.0, height * n_x, height * n_y, height * n_z
        planes[a, 0], planes[a, 1] = height, gap
        if height < 0.0:
            outside = True
            square = g_x * g_x + g_y * g_y + g_z * g_z
            if square < best:
                best, near_x, near_y, near_z = square, g_x, g_y, g_z
    if not outside:
        near_x, near_y, near_z = 0.0, 0.0, 0.0
    return number, near_x, near_y, near_z
