"""Compiled exact draws from posteriors with three latent coordinates.

First a region is chosen, then a point within it: by a few plain Gaussian proposals where the
polyhedron is near the mean, else by slices. The slice's place s is drawn by rejection under an
envelope of its density, the slice's mass, which is log-concave by Prekopa's theorem; then the
point is drawn within the slice, a polygon, in the same way one dimension lower. All ways are
exact.

References:
    Prekopa (1973), On logarithmic concave measures and functions.
    Gilks & Wild (1992), Adaptive Rejection Sampling for Gibbs Sampling (envelopes).
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0915 - compiled loops are one body

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.edge_moments import nearest_point
from pyrolvm.exact.polytopes.polyhedron_flags import largest_sizes, make_tables, trace_flags
from pyrolvm.exact.polytopes.polyhedron_frame import (
    cut_slice,
    find_slice,
    slicing_frame,
    slicing_range,
    turn_points,
)
from pyrolvm.exact.polytopes.polyhedron_regions import finish_draw, place, remainder
from pyrolvm.exact.polytopes.polyhedron_slices import add_slice
from pyrolvm.exact.random_kernel import (
    choose,
    choose_all,
    normal_pair,
    open_stream,
    truncated_normal,
    uniform,
)
from pyrolvm.exact.sampling_kernel import CELLS, TRIES, build_envelope, slice_mass
from pyrolvm.exact.slice_moments import slicing_axis, turn, window

# Cells of the envelope whose bound is below this share of all are left out when it is refined.
SHARE = 1e-18
PROPOSALS = 10000


@njit(cache=True, nogil=True)
def bound_cells(grid, level, cumulative):
    """Bound a log-concave function on each cell of a grid from its values at the ends."""
    top = 0
    for i in range(CELLS + 1):
        if grid[i] > grid[top]:
            top = i
    total = 0.0
    for i in range(CELLS):
        bound = max(grid[i], grid[i + 1])
        if i in (top - 1, top):
            # the chords of the neighbouring cells, prolonged, lie above
            left, right = 1e300, 1e300
            if i > 0 and grid[i - 1] > 0.0:
                left = max(bound, grid[i] * (grid[i] / grid[i - 1]))
            if i < CELLS - 1 and grid[i + 2] > 0.0:
                right = max(bound, grid[i + 1] * (grid[i + 1] / grid[i + 2]))
            bound = min(left, right)
        level[i] = bound * (1 + 1e-6)
        total += level[i]
        cumulative[i] = total


@njit(cache=True, nogil=True)
def slice_at(turned, ends, number, facets, distance, at, ring, next_edge, start, x, u, sums):
    """Cut a slice and find its scaled mass.

    Returns:
        Mass and number of vertices; these are written to x and u.
    """
    size = find_slice(turned, ends, number, facets, at, ring, next_edge, start)
    if size < 3 or not cut_slice(turned, ends, ring, size, at, distance, x, u):
        return 0.0, size
    return add_slice(x, u, size, at, distance, 1.0, sums), size


@njit(cache=True, nogil=True)
def build_slices(
    turned, ends, number, facets, distance, low, high, ring, next_edge, start, x, u, sums, level,
    cumulative,
):  # fmt: skip
    """Envelope of the slices' masses on equal cells, refined to where the mass is.

    Returns:
        Begin and end of the range of cells.
    """
    grid = np.empty(CELLS + 1)
    for _ in range(4):
        step = (high - low) / CELLS
        for i in range(CELLS + 1):
            at = low + step * i
            if i == 0:
                at += 1e-9 * step
            if i == CELLS:
                at = high - 1e-9 * step
            grid[i], _ = slice_at(
                turned, ends, number, facets, distance, at, ring, next_edge, start, x, u, sums
            )
        bound_cells(grid, level, cumulative)
        least = SHARE * cumulative[CELLS - 1]
        begin, end = 0, CELLS
        while begin + 1 < end and level[begin] <= least:
            begin += 1
        while end - 1 > begin and level[end - 1] <= least:
            end -= 1
        if end - begin > CELLS // 2:
            break
        low, high = low + step * begin, low + step * end
    return low, high


@njit(cache=True, nogil=True)
def draw_in_polygon(x, u, size, s, v, cumulative, level, state):
    """Exact draw of N(0, I) on a convex polygon; s and v are work space."""
    near_x, near_u, _ = nearest_point(x, u, size)
    ax, ay, distance = slicing_axis(x, u, size, near_x, near_u)
    turn(x, u, size, ax, ay, s, v)
    low, high = window(s, v, size, distance * distance)
    if not low < high:
        return near_x, near_u
    build_envelope(s, v, size, distance, low, high, cumulative, level)
    if not cumulative[CELLS - 1] > 0.0:
        return near_x, near_u
    step = (high - low) / CELLS
    at, bottom, ceiling = 0.0, 0.0, 0.0
    for _ in range(PROPOSALS):
        cell = choose(cumulative, 0, CELLS, uniform(state) * cumulative[CELLS - 1])
        at = low + step * (cell + uniform(state))
        mass, bottom, ceiling = slice_mass(s, v, size, distance, at)
        if uniform(state) * level[cell] <= mass:
            break
    t = truncated_normal(bottom, ceiling, state)
    return ay * at + ax * t, -ax * at + ay * t


@njit(cache=True, nogil=True)
def propose(planes, begin, facets, normals, state, point):
    """Try plain Gaussian proposals; tells whether one fell inside."""
    for _ in range(TRIES):
        point[0], point[1] = normal_pair(state)
        point[2], _ = normal_pair(state)
        inside = True
        for a in range(facets):
            f = begin + a
            height = normals[f, 0] * point[0] + normals[f, 1] * point[1] + normals[f, 2] * point[2]
            if height > planes[a, 0]:
                inside = False
                break
        if inside:
            return True
    return False


@njit(cache=True, nogil=True)
def draw_polyhedra(
    seed,
    first_datum,
    num,
    y,
    offsets,
    region,
    probability,
    values,
    anchors,
    basis,
    inverse,
    corners,
    first,
    count,
    facet_first,
    facet_count,
    normals,
    facet_offsets,
    corner_first,
    corner_count,
    facet_corners,
    out,
):
    """Draw from posteriors with three latent coordinates; writes whitened points to ``out``.

    Args:
        seed: Non-negative seed.
        first_datum: Number of the first datum; its stream of random numbers hangs on it.
        num: Draws for each datum.
        y: Reduced data, ``(N, D')``.
        offsets: Pairs of datum n are ``offsets[n]:offsets[n + 1]``, ``(N + 1,)``.
        region: Region of each pair.
        probability: Its posterior probability.
        values: See :class:`~pyrolvm.exact.geometry.RegionGeometry`, likewise the next four.
        anchors: ``(R, 3)``.
        basis: ``(R, 3, D' + 3)``.
        inverse: ``(R, 3, 3)``.
        corners: ``(V, 3)``.
        first: First vertex of each polyhedron, ``(R,)``.
        count: Number of its vertices, ``(R,)``.
        facet_first: First facet of each polyhedron, ``(R,)``.
        facet_count: Number of its facets, ``(R,)``.
        normals: Outward unit normals of the whitened facets, ``(F, 3)``.
        facet_offsets: Their offsets, ``(F,)``.
        corner_first: First corner of each facet, ``(F,)``.
        corner_count: Number of its corners, ``(F,)``.
        facet_corners: Corners of the facets as positions among the region's vertices.
        out: ``(num, all data, 3)``.
    """
    state = np.empty(1, np.uint64)
    order = np.empty(num, np.int64)
    width = y.shape[1]
    rho, sums = np.empty(width + 3), np.empty(10)
    vertices, most, edges = largest_sizes(count, facet_first, facet_count, corner_count)
    points, flags, ends, planes, pairs = make_tables(vertices, most, edges)
    turned, frame = np.empty((vertices, 3)), np.empty((3, 3))
    ring, next_edge = np.empty(edges, np.int64), np.empty(edges, np.int64)
    start = np.empty(most, np.int64)
    x, u, s, v = np.empty(edges), np.empty(edges), np.empty(edges), np.empty(edges)
    cumulative, level = np.empty(CELLS), np.empty(CELLS)
    inner_cumulative, inner_level = np.empty(CELLS), np.empty(CELLS)
    mean, near, point, local = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for n in range(y.shape[0]):
        open_stream(seed, first_datum + n, state)
        begin, end = offsets[n], offsets[n + 1]
        tally = np.empty(end - begin + 1, np.int64)
        choose_all(probability, begin, end, num, state, order, tally)
        for i in range(end - begin):
            if tally[i] == tally[i + 1]:
                continue
            r = region[begin + i]
            facets = facet_count[r]
            remainder(y[n], values[r], anchors[r], rho)
            place(rho, basis[r], corners, first[r], count[r], points, mean)
            number, near[0], near[1], near[2] = trace_flags(
                points, count[r], facet_first[r], facets, normals, corner_first, corner_count,
                facet_corners, flags, ends, planes, pairs,
            )  # fmt: skip
            ready = False
            low, high = 0.0, 0.0
            distance = sqrt(near[0] * near[0] + near[1] * near[1] + near[2] * near[2])
            for k in range(tally[i], tally[i + 1]):
                if distance < 1.0 and propose(
                    planes, facet_first[r], facets, normals, state, point
                ):
                    finish_draw(
                        point, mean, anchors[r], inverse[r], out[order[k], first_datum + n]
                    )
                    continue
                if not ready:
                    distance = slicing_frame(points, count[r], near, frame)
                    turn_points(points, count[r], near, frame, turned)
                    low, high = slicing_range(turned, count[r], ends, number, distance)
                    cumulative[CELLS - 1] = 0.0
                    if low < high:
                        low, high = build_slices(
                            turned, ends, number, facets, distance, low, high, ring, next_edge,
                            start, x, u, sums, level, cumulative,
                        )  # fmt: skip
                    ready = True
                local[0], local[1], local[2] = 0.0, 0.0, 0.0
                if low < high and cumulative[CELLS - 1] > 0.0:
                    step = (high - low) / CELLS
                    size = 0
                    for _ in range(PROPOSALS):
                        value = uniform(state) * cumulative[CELLS - 1]
                        cell = choose(cumulative, 0, CELLS, value)
                        local[0] = low + step * (cell + uniform(state))
                        mass, size = slice_at(
                            turned, ends, number, facets, distance, local[0], ring, next_edge,
                            start, x, u, sums,
                        )  # fmt: skip
                        if uniform(state) * level[cell] <= mass and size >= 3:
                            break
                    local[1], local[2] = draw_in_polygon(
                        x, u, size, s, v, inner_cumulative, inner_level, state
                    )
                    local[2] -= distance
                for d in range(3):
                    point[d] = near[d]
                    for m in range(3):
                        point[d] += frame[m, d] * local[m]
                finish_draw(point, mean, anchors[r], inverse[r], out[order[k], first_datum + n])
