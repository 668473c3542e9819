"""Compiled kernel that cuts convex polygons along the kinks of one layer."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body

from __future__ import annotations

import numpy as np
from numba import njit

from pyrolvm.exact.buffers import lengthen, lengthen_rows

TOLERANCE = 1e-12


@njit(cache=True, nogil=True)
def split_layer(x, y, first, count, codes, column, anchor, value, jacobian, limit):
    """Cut polygons by the zero lines of a layer's pre-activations, unit after unit.

    A vertex counts as on the line within a relative tolerance; a polygon is cut only if it has
    vertices strictly on both sides, and otherwise takes the side of its farthest vertex.

    Args:
        x: Vertex abscissae of all polygons, one after the other, counter-clockwise.
        y: Vertex ordinates.
        first: Index of each polygon's first vertex, ``(P,)``.
        count: Number of vertices of each polygon, ``(P,)``.
        codes: Codes of the polygons, ``(P, units)``; filled from ``column`` on.
        column: Where this layer's units start in the codes.
        anchor: Anchors of the polygons' affine maps, ``(P, 2)``.
        value: Pre-activations at the anchors, ``(P, H)``.
        jacobian: Their transposed Jacobians, ``(P, 2, H)``.
        limit: Most polygons allowed.

    Returns:
        New x, y, first, count, codes, and the number of units done (less than H if stopped by
        the limit).
    """
    parents, width = value.shape
    total = codes.shape[1]
    capacity = 2 * parents + 64
    starts = np.empty(capacity, np.int64)
    sizes = np.empty(capacity, np.int64)
    parent = np.empty(capacity, np.int64)
    marks = lengthen_rows(codes, parents, capacity)
    room = 2 * x.shape[0] + 1024
    used = x.shape[0]
    px, py = lengthen(x, used, room), lengthen(y, used, room)
    polygons = parents
    longest = 4
    for i in range(parents):
        starts[i], sizes[i], parent[i] = first[i], count[i], i
        longest = max(longest, count[i])
    side = np.empty(longest + 2 * width + 4)
    done = 0
    for k in range(width):
        if polygons > limit:
            break
        existing = polygons
        for i in range(existing):
            o = parent[i]
            a, b, c = jacobian[o, 0, k], jacobian[o, 1, k], value[o, k]
            s, n = starts[i], sizes[i]
            low, high = 0.0, 0.0
            scale = 0.0
            for j in range(n):
                dx, dy = px[s + j] - anchor[o, 0], py[s + j] - anchor[o, 1]
                f = c + a * dx + b * dy
                side[j] = f
                scale = max(scale, abs(a * dx) + abs(b * dy))
                low, high = min(low, f), max(high, f)
            tolerance = TOLERANCE * (scale + abs(c))
            if low >= -tolerance or high <= tolerance:
                marks[i, column + k] = high > -low
                continue
            if used + 2 * n + 8 > room:
                room = 2 * (room + n)
                px, py = lengthen(px, used, room), lengthen(py, used, room)
            if polygons == capacity:
                capacity *= 2
                starts = lengthen(starts, polygons, capacity)
                sizes = lengthen(sizes, polygons, capacity)
                parent = lengthen(parent, polygons, capacity)
                marks = lengthen_rows(marks, polygons, capacity)
            base = used
            for positive in range(2):
                sign = 1.0 if positive == 1 else -1.0
                begin = used
                for j in range(n):
                    m = j + 1 if j + 1 < n else 0
                    f, g = sign * side[j], sign * side[m]
                    if f >= -tolerance:
                        px[used], py[used] = px[s + j], py[s + j]
                        used += 1
                    if (f > tolerance and g < -tolerance) or (f < -tolerance and g > tolerance):
                        t = f / (f - g)
                        px[used] = px[s + j] + t * (px[s + m] - px[s + j])
                        py[used] = py[s + j] + t * (py[s + m] - py[s + j])
                        used += 1
                if positive == 0:
                    base = begin
                    negative_size = used - begin
                else:
                    starts[polygons], sizes[polygons] = begin, used - begin
            starts[i], sizes[i] = base, negative_size
            parent[polygons] = o
            for j in range(total):
                marks[polygons, j] = marks[i, j]
            marks[i, column + k] = False
            marks[polygons, column + k] = True
            polygons += 1
        done = k + 1
    out_first = np.empty(polygons, np.int64)
    out_count = lengthen(sizes, polygons, polygons)
    out_first[0] = 0
    for i in range(1, polygons):
        out_first[i] = out_first[i - 1] + out_count[i - 1]
    size = out_first[polygons - 1] + out_count[polygons - 1]
    out_x, out_y = np.empty(size), np.empty(size)
    for i in range(polygons):
        f0, s0 = out_first[i], starts[i]
        for j in range(out_count[i]):
            out_x[f0 + j], out_y[f0 + j] = px[s0 + j], py[s0 + j]
    return out_x, out_y, out_first, out_count, lengthen_rows(marks, polygons, polygons), done
