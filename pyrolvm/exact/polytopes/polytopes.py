r"""Affine regions of a generator with three and more latents: convex polytopes in a box.

The box [-B, B]^S of whitened coordinates is cut layer by layer, unit by unit. Within a polytope
the pre-activations of the next layer are affine, so that the signs at the vertices decide exactly
which of its kinks pass through; no linear program is solved.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (own cutting, no search over codes).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pyrolvm.exact.errors import too_many_regions
from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.propagation import Codes, pre_activations

Index = NDArray[np.int64]
# vertices, masks, first, count, planes, sources, facet_first, facet_count
Cells = tuple[Array, Index, Index, Index, Array, Index, Index, Index]


@dataclass(frozen=True)
class Facets:
    """Facets of all polytopes, one polytope after the other.

    Attributes:
        first: Index of each polytope's first facet, ``(R,)``.
        count: Number of its facets, ``(R,)``.
        normals: Outward unit normals n, ``(F, S)``.
        offsets: The polytope lies in n . u <= offset, ``(F,)``.
        corner_first: Index of each facet's first corner, ``(F,)``.
        corner_count: Number of its corners, ``(F,)``.
        corners: Corners of all facets, ``(C,)``, each as a position among its polytope's vertices
            (from 0); counter-clockwise seen from outside if S = 3.
        sources: What makes each facet, ``(F,)``: the index of a hidden unit as in the codes, or
            -2 d - 1 and -2 d - 2 for the upper and the lower face of the box in coordinate d.
    """

    first: Index
    count: Index
    normals: Array
    offsets: Array
    corner_first: Index
    corner_count: Index
    corners: Index
    sources: Index


def make_box(dim: int, box: float) -> Cells:
    """The box [-B, B]^S as the first polytope, in the form that the kernels cut."""
    signs = np.array(list(product([1.0, -1.0], repeat=dim)))
    planes = np.zeros((2 * dim, dim + 1))
    planes[:, dim] = box
    for axis in range(dim):
        planes[2 * axis, axis], planes[2 * axis + 1, axis] = 1.0, -1.0
    masks = sum(np.where(signs[:, d] > 0, 1, 2).astype(np.int64) << (2 * d) for d in range(dim))
    return (
        box * signs,
        np.asarray(masks, dtype=np.int64)[:, None],
        np.zeros(1, dtype=np.int64),
        np.full(1, 2**dim, dtype=np.int64),
        planes,
        -1 - np.arange(2 * dim, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
        np.full(1, 2 * dim, dtype=np.int64),
    )


def cut(
    folded: FoldedGenerator, box: float, limit: int
) -> tuple[Array, Index, Index, Codes, Array, Facets]:
    """Find all affine regions inside the box.

    Args:
        folded: The generator, at least two latent coordinates.
        box: B, half the side of the box, whitened coordinates.
        limit: Most polytopes allowed.

    Returns:
        Vertices ``(V, S)``, first vertex and number of vertices of each polytope ``(R,)``, codes
        ``(R, units)``, anchors ``(R, S)`` and facets.

    Raises:
        RegionLimitError: If there are more polytopes than allowed, with an estimate.
    """
    from pyrolvm.exact.polytopes.anchor_kernel import choose_anchors
    from pyrolvm.exact.polytopes.facet_kernel import compact, list_facets
    from pyrolvm.exact.polytopes.splitting_kernel import split_layer

    cells = make_box(folded.latent_dim, box)
    units = sum(weight.shape[0] for weight in folded.weights)
    codes = np.zeros((1, units), dtype=np.bool_)
    column = 0
    for layer, slope in enumerate(folded.slopes):
        width = folded.weights[layer].shape[0]
        if slope == 1.0:
            codes[:, column : column + width] = True
        else:
            anchors = choose_anchors(cells[0], cells[2], cells[3])
            value, jacobian = pre_activations(folded, layer, anchors, codes)
            jacobian = np.ascontiguousarray(jacobian.transpose(0, 2, 1))
            *parts, codes, done = split_layer(
                *cells, codes, column, anchors, np.ascontiguousarray(value), jacobian, limit
            )
            cells = compact(*parts)
            if len(codes) > limit:
                size = sum(array.nbytes for array in (*cells, codes)) / len(codes)
                raise too_many_regions(
                    len(codes), limit, column + done, units, folded.latent_dim, size
                )
        column += width
    listed = list_facets(*cells)
    solid = cells[3] > 0
    vertices, _, first, count, *_ = compact(
        *cells[:2], cells[2][solid], cells[3][solid], *cells[4:6], cells[6][solid], cells[7][solid]
    )
    anchors = choose_anchors(vertices, first, count)
    return vertices, first, count, codes[solid], anchors, _facets(solid, *listed)


def _facets(
    solid: NDArray[np.bool_],
    first: Index,
    count: Index,
    planes: Array,
    sources: Index,
    corner_first: Index,
    corner_count: Index,
    corners: Index,
) -> Facets:
    return Facets(
        first=first[solid],
        count=count[solid],
        normals=np.ascontiguousarray(planes[:, :-1]),
        offsets=np.ascontiguousarray(planes[:, -1]),
        corner_first=corner_first,
        corner_count=corner_count,
        corners=corners,
        sources=sources,
    )
