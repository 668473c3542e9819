"""Compiled work on one pair of datum and region: place its polytope, look at it, measure it."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import inf

import numpy as np
from numba import njit

from pyrolvm.exact.polytopes.lattice_frame import binding_order, extent, project_hulls, rotate
from pyrolvm.exact.polytopes.lattice_nearest import nearest_facets
from pyrolvm.exact.polytopes.lattice_tilting import minimax


@njit(cache=True, nogil=True)
def make_space(dim, facets, vertices):
    """Work space for polytopes with up to that many facets and vertices.

    Returns:
        Offsets and vertices around the mean; frame, facet of each direction, rotated normals,
        rotated vertices, extents; hulls and their lengths; tilt; space for the slices.
    """
    pairs = max((dim - 2) * (dim - 3) // 2, 1)
    return (
        np.empty(facets),
        np.empty((vertices, dim)),
        np.empty((dim, dim)),
        np.empty(dim, np.int64),
        np.empty((facets, dim)),
        np.empty((vertices, dim)),
        np.empty((dim, 2)),
        np.empty((pairs, 2, vertices, 2)),
        np.empty((pairs, 2), np.int64),
        np.empty(dim),
        np.empty((4, 2 * facets + 16)),
    )


@njit(cache=True, nogil=True)
def place_polytope(mean, normals, offsets, corners, room, points):
    """Move a whitened polytope so that the Gaussian's mean is at 0.

    Args:
        mean: Whitened mean of the unbounded Gaussian.
        normals: Outward unit normals of the region's facets.
        offsets: Their offsets.
        corners: The region's whitened vertices.
        room: Receives the offsets around the mean.
        points: Receives the vertices around the mean.

    Returns:
        A lower bound on the distance from the mean: that to the farthest facet.
    """
    dim = mean.shape[0]
    distance = 0.0
    for j in range(offsets.shape[0]):
        room[j] = offsets[j]
        for k in range(dim):
            room[j] -= normals[j, k] * mean[k]
        distance = max(distance, -room[j])
    for i in range(corners.shape[0]):
        for k in range(dim):
            points[i, k] = corners[i, k] - mean[k]
    return distance


@njit(cache=True, nogil=True)
def look(normals, facets, size, least, space):
    """Rotate a placed polytope, most binding directions first, and find its minimax tilt.

    Args:
        normals: Outward unit normals.
        facets: Number of facets.
        size: Number of vertices.
        least: Log masses below this do not matter.
        space: From :func:`make_space`, with the polytope placed.

    Returns:
        A bound on every log weight, hence on the log mass; or -inf if that would be below
        ``least`` by the distance alone, and nothing else has been done.
    """
    room, points, frame, picks, turned, corners, box, chains, lengths, tilt, _ = space
    dim = frame.shape[0]
    active = np.empty(dim, np.int64)
    used, distance = nearest_facets(normals, room, facets, active)
    if -distance < least:
        return -inf
    binding_order(normals, room, facets, points, size, active[:used], frame, picks)
    rotate(normals, facets, frame, turned)
    rotate(points, size, frame, corners)
    centre, at = np.zeros(dim), np.empty(dim)
    for k in range(dim):
        box[k, 0], box[k, 1] = extent(points, size, frame[k])
        for i in range(size):
            centre[k] += corners[i, k] / size
    project_hulls(corners, size, dim - 2, chains, lengths)
    return min(minimax(turned, room, facets, picks, box, centre, at, tilt), -distance)
