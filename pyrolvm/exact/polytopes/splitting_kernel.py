"""Compiled kernel that cuts convex polytopes along the kinks of one layer."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body

from __future__ import annotations

import numpy as np
from numba import njit

from pyrolvm.exact.buffers import lengthen, lengthen_rows
from pyrolvm.exact.polytopes.incidence_kernel import BITS, cross_edges, widen, write_child

TOLERANCE = 1e-12
# Coordinates that differ by less than this fraction of their size are not told apart.
RESOLUTION = 1e-14


@njit(cache=True, nogil=True)
def evaluate(vertices, s, n, anchor, jacobian, value, k, side):
    """Pre-activation k at the vertices of a polytope, written to ``side``.

    Returns:
        Its least and greatest value, and the tolerance within which a vertex is on the plane.
    """
    low, high, scale, reach = np.inf, -np.inf, 0.0, 0.0
    dim = vertices.shape[1]
    slope = 0.0
    for d in range(dim):
        slope += abs(jacobian[k, d])
    for j in range(n):
        f, size = value[k], 0.0
        for d in range(dim):
            term = jacobian[k, d] * (vertices[s + j, d] - anchor[d])
            f += term
            size += abs(term)
            reach = max(reach, abs(vertices[s + j, d]))
        side[j] = f
        scale = max(scale, size)
        low, high = min(low, f), max(high, f)
    return low, high, TOLERANCE * (scale + abs(value[k])) + RESOLUTION * slope * reach


@njit(cache=True, nogil=True)
def split_layer(
    vertices, masks, first, count, planes, sources, facet_first, facet_count,
    codes, column, anchor, value, jacobian, limit,
):  # fmt: skip
    """Cut polytopes by the zero planes of a layer's pre-activations, unit after unit.

    A polytope is cut only if it has vertices strictly on both sides, and otherwise takes the side
    of its farthest vertex.

    Args:
        vertices: Vertices of all polytopes, one after the other, ``(V, S)``.
        masks: Facets of each vertex, ``(V, words)``.
        first: First vertex of each polytope, ``(P,)``.
        count: Number of its vertices, ``(P,)``.
        planes: Outward unit normal and offset of each facet, ``(F, S + 1)``.
        sources: What made it: a hidden unit, a face of the box (negative), or ``GONE``, ``(F,)``.
        facet_first: First facet of each polytope, ``(P,)``.
        facet_count: Number of its facet slots, ``(P,)``.
        codes: Codes of the polytopes, ``(P, units)``; filled from ``column`` on.
        column: Where this layer's units start in the codes.
        anchor: Anchors of the polytopes' affine maps, ``(P, S)``.
        value: Pre-activations at the anchors, ``(P, H)``.
        jacobian: Their Jacobians, ``(P, H, S)``.
        limit: Most polytopes allowed.

    Returns:
        The first nine arguments for the parts, and the number of units done (less than H if
        stopped by the limit).
    """
    parents, width = value.shape
    dim, total = vertices.shape[1], codes.shape[1]
    used, held, cells = vertices.shape[0], planes.shape[0], parents
    capacity, room, places = 2 * parents + 64, 2 * used + 1024, 2 * held + 512
    vertices, masks = lengthen_rows(vertices, used, room), lengthen_rows(masks, used, room)
    planes, sources = lengthen_rows(planes, held, places), lengthen(sources, held, places)
    first, count = lengthen(first, cells, capacity), lengthen(count, cells, capacity)
    facet_first = lengthen(facet_first, cells, capacity)
    facet_count = lengthen(facet_count, cells, capacity)
    codes = lengthen_rows(codes, cells, capacity)
    parent = np.empty(capacity, np.int64)
    longest = 0
    for i in range(parents):
        parent[i] = i
        longest = max(longest, count[i])
    side, order = np.empty(2 * longest), np.empty(2 * longest, np.int64)
    points, common = np.empty((256, dim)), np.empty((256, masks.shape[1]), np.int64)
    plane = np.empty(dim + 1)
    done = 0
    for k in range(width):
        if cells > limit:
            break
        for i in range(cells):
            o = parent[i]
            s, n, f, m = first[i], count[i], facet_first[i], facet_count[i]
            if n > side.shape[0]:
                side, order = np.empty(2 * n), np.empty(2 * n, np.int64)
            low, high, tolerance = evaluate(
                vertices, s, n, anchor[o], jacobian[o], value[o], k, side
            )
            codes[i, column + k] = high > -low
            if low >= -tolerance or high <= tolerance:
                continue
            if m + 1 > BITS * masks.shape[1]:
                masks = widen(masks, used)
                common = np.empty((points.shape[0], masks.shape[1]), np.int64)
            found, points, common = cross_edges(
                vertices, masks, s, n, side, tolerance, order, points, common
            )
            if used + 2 * (n + found) > room:
                room = 2 * (room + n + found)
                vertices = lengthen_rows(vertices, used, room)
                masks = lengthen_rows(masks, used, room)
            if held + 2 * (m + 1) > places:
                places = 2 * (places + m + 1)
                planes = lengthen_rows(planes, held, places)
                sources = lengthen(sources, held, places)
            if cells == capacity:
                capacity *= 2
                first, count = lengthen(first, cells, capacity), lengthen(count, cells, capacity)
                facet_first = lengthen(facet_first, cells, capacity)
                facet_count = lengthen(facet_count, cells, capacity)
                parent = lengthen(parent, cells, capacity)
                codes = lengthen_rows(codes, cells, capacity)
            norm, offset = 0.0, -value[o, k]
            for d in range(dim):
                norm += jacobian[o, k, d] ** 2
                offset += jacobian[o, k, d] * anchor[o, d]
            norm = np.sqrt(norm)
            for d in range(dim):
                plane[d] = jacobian[o, k, d] / norm
            plane[dim] = offset / norm
            for j in range(total):
                codes[cells, j] = codes[i, j]
            codes[i, column + k], codes[cells, column + k] = False, True
            parent[cells] = o
            for positive in range(2):
                sign = 1.0 if positive == 1 else -1.0
                size, slots = write_child(
                    vertices, masks, used, planes, sources, held, s, n, f, m, side, sign,
                    tolerance, points, common, found, plane, column + k,
                )  # fmt: skip
                child = cells if positive == 1 else i
                first[child], count[child] = used, size
                facet_first[child], facet_count[child] = held, slots
                used, held = used + size, held + slots
            cells += 1
        done = k + 1
    return (
        vertices, masks, first[:cells], count[:cells], planes, sources, facet_first[:cells],
        facet_count[:cells], codes[:cells], done,
    )  # fmt: skip
