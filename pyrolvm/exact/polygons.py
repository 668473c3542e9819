r"""Affine regions of a generator with two latent coordinates: convex polygons in a box.

The box [-B, B]^2 of whitened coordinates is cut layer by layer. Within a polygon the
pre-activations of the next layer are affine, so that the signs at the vertices decide exactly
which of its kinks pass through.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyrolvm.exact.errors import too_many_regions
from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.propagation import Codes, pre_activations

Index = NDArray[np.int64]


def anchors_of(vertices: Array, first: Index, count: Index) -> Array:
    """Choose one point in each polygon: its centroid of vertices, or its point nearest to 0.

    The nearest point is taken for polygons that reach far out, so that their maps keep their
    digits where the prior has its mass.

    Args:
        vertices: All vertices, ``(V, 2)``, counter-clockwise for each polygon.
        first: Index of each polygon's first vertex, ``(R,)``.
        count: Number of vertices, ``(R,)``.

    Returns:
        Anchors, ``(R, 2)``.
    """
    following = np.arange(len(vertices)) + 1
    last = first + count - 1
    following[last] = first
    edge = vertices[following] - vertices
    square = np.maximum((edge**2).sum(1), 1e-300)
    where = np.clip(-(vertices * edge).sum(1) / square, 0.0, 1.0)
    foot = vertices + where[:, None] * edge
    distance = (foot**2).sum(1)
    cross = vertices[:, 0] * edge[:, 1] - vertices[:, 1] * edge[:, 0]
    contains = np.minimum.reduceat(cross, first) >= 0
    nearest = np.minimum.reduceat(distance, first)
    owner = np.repeat(np.arange(len(first)), count)
    candidates = np.flatnonzero(distance == nearest[owner])
    pick = np.empty(len(first), dtype=np.int64)
    pick[owner[candidates]] = candidates
    anchors = np.where(contains[:, None], 0.0, foot[pick])
    reach = np.maximum.reduceat(np.abs(vertices).max(1), first)
    centroid = np.add.reduceat(vertices, first) / count[:, None]
    return np.where((reach > 8.0)[:, None], anchors, centroid)


def cut(folded: FoldedGenerator, box: float, limit: int) -> tuple[Array, Index, Index, Codes]:
    """Find all affine regions inside the box.

    Args:
        folded: The generator, two latent coordinates.
        box: B, half the side of the box, whitened coordinates.
        limit: Most polygons allowed.

    Returns:
        Vertices ``(V, 2)``, first vertex and number of vertices of each polygon ``(R,)``, and
        codes ``(R, units)``.

    Raises:
        RegionLimitError: If there are more polygons than allowed, with an estimate.
    """
    from pyrolvm.exact.splitting import split_layer

    x, y = np.array([-box, box, box, -box]), np.array([-box, -box, box, box])
    first, count = np.zeros(1, dtype=np.int64), np.full(1, 4, dtype=np.int64)
    units = sum(weight.shape[0] for weight in folded.weights)
    codes = np.zeros((1, units), dtype=np.bool_)
    column = 0
    for layer, slope in enumerate(folded.slopes):
        width = folded.weights[layer].shape[0]
        if slope == 1.0:
            codes[:, column : column + width] = True
        else:
            anchors = anchors_of(np.stack([x, y], 1), first, count)
            value, jacobian = pre_activations(folded, layer, anchors, codes)
            x, y, first, count, codes, done = split_layer(
                x, y, first, count, codes, column, anchors, value, jacobian, limit
            )
            if len(first) > limit:
                size = 16 * len(x) / len(first) + 16 + units
                raise too_many_regions(len(first), limit, column + done, units, 2, size)
        column += width
    return np.stack([x, y], 1), first, count, codes
