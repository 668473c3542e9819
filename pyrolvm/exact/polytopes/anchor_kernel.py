"""Compiled choice of one interior point of each polytope."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

# Polytopes that reach farther than this get an anchor near 0.
NEAR = 4.0
STEPS = 32
# Share of the centroid in an anchor near 0, which keeps it off the border.
CENTRAL = 0.125


@njit(cache=True, nogil=True)
def approach_origin(vertices, s, n, point):
    """Walk from the vertex nearest to 0 towards the polytope's nearest point (Gilbert 1966).

    A few steps do: any point of the polytope is an anchor, and one near 0 keeps more digits.
    """
    dim = vertices.shape[1]
    nearest, least = s, np.inf
    for j in range(s, s + n):
        square = 0.0
        for d in range(dim):
            square += vertices[j, d] ** 2
        if square < least:
            nearest, least = j, square
    for d in range(dim):
        point[d] = vertices[nearest, d]
    for _ in range(STEPS):
        lowest, least, square = s, np.inf, 0.0
        for d in range(dim):
            square += point[d] ** 2
        for j in range(s, s + n):
            level = 0.0
            for d in range(dim):
                level += point[d] * vertices[j, d]
            if level < least:
                lowest, least = j, level
        if square - least <= 0.01 * (1.0 + square):
            break
        length = 0.0
        for d in range(dim):
            length += (vertices[lowest, d] - point[d]) ** 2
        share = min((square - least) / length, 1.0)
        for d in range(dim):
            point[d] += share * (vertices[lowest, d] - point[d])


@njit(cache=True, nogil=True)
def choose_anchors(vertices, first, count):
    """Centroid of the vertices, or a point near 0 for polytopes that reach far out.

    Args:
        vertices: Vertices of all polytopes, ``(V, S)``.
        first: First vertex of each polytope, ``(R,)``.
        count: Number of its vertices, ``(R,)``.

    Returns:
        Interior points, ``(R, S)``.
    """
    cells, dim = first.shape[0], vertices.shape[1]
    anchors, point = np.empty((cells, dim)), np.empty(dim)
    for i in range(cells):
        s, n = first[i], count[i]
        reach = 0.0
        for d in range(dim):
            total = 0.0
            for j in range(s, s + n):
                total += vertices[j, d]
                reach = max(reach, abs(vertices[j, d]))
            anchors[i, d] = total / n
        if reach > NEAR:
            approach_origin(vertices, s, n, point)
            for d in range(dim):
                anchors[i, d] = point[d] + CENTRAL * (anchors[i, d] - point[d])
    return anchors
