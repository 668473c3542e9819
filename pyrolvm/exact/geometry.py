r"""The joint density on each region, whitened.

On a region with anchor c, f(u) = f_c + J (u - c). With the augmented residual
rho = [y - f_c ; -c] and the thin QR factorisation [J ; I] = Q C,

.. math:: \log p(u, y) = -\tfrac12 |\rho - Q w|^2 + \text{const}, \qquad w = C (u - c),

so that the posterior precision is C^T C, the mean of the unbounded Gaussian is w = Q^T rho, and
nothing is squared before it has been subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.partition import Partition
from pyrolvm.exact.propagation import output_maps


@dataclass(frozen=True)
class RegionGeometry:
    """Whitened regions, all arrays C-contiguous float64.

    Attributes:
        values: f at the anchors, ``(R, D')``.
        anchors: c, ``(R, S)``.
        basis: Transposed Q, ``(R, S, D' + S)``.
        factor: Upper triangular C, ``(R, S, S)``.
        inverse: Inverse of C, ``(R, S, S)``.
        log_det: Log determinant of C, ``(R,)``.
        corners: w at the vertices ``(V, S)``, or at the interval's ends ``(R, 2)``.
        normals: Outward unit normals n of the whitened facets, ``(F, S)``; empty if S < 3.
        offsets: The whitened region lies in n . w <= offset, ``(F,)``.
        projection: ``(D', R (S + 1))``, maps data to f_c . y and Q^T y for the bounds.
        shift: What to subtract from Q^T y to get w of the unbounded mean, ``(R, S)``.
        square: |f_c|^2 + |c|^2, ``(R,)``.
    """

    values: Array
    anchors: Array
    basis: Array
    factor: Array
    inverse: Array
    log_det: Array
    corners: Array
    normals: Array
    offsets: Array
    projection: Array
    shift: Array
    square: Array


def orthogonalise(jacobian: Array) -> tuple[Array, Array]:
    """Thin QR factorisation of [J ; I] for many regions, with a positive diagonal.

    Args:
        jacobian: Transposed Jacobians, ``(R, S, D')``.

    Returns:
        Transposed Q ``(R, S, D' + S)`` and upper triangular C ``(R, S, S)``.
    """
    size, dim, _ = jacobian.shape
    eye = np.broadcast_to(np.eye(dim), (size, dim, dim))
    basis = np.concatenate([jacobian, eye], axis=2)
    factor = np.zeros((size, dim, dim))
    for _ in range(2):
        update = np.zeros_like(factor)
        for k in range(dim):
            for j in range(k):
                overlap = np.einsum("rk,rk->r", basis[:, j], basis[:, k])
                basis[:, k] -= overlap[:, None] * basis[:, j]
                update[:, j, k] = overlap
            norm = np.sqrt(np.einsum("rk,rk->r", basis[:, k], basis[:, k]))
            update[:, k, k] = norm
            basis[:, k] /= norm[:, None]
        factor = update if not factor.any() else update @ factor
    return basis, factor


def invert(factor: Array) -> Array:
    """Invert upper triangular matrices ``(R, S, S)``."""
    inverse = np.zeros_like(factor)
    for j in range(factor.shape[1]):
        inverse[:, j, j] = 1 / factor[:, j, j]
        for i in reversed(range(j)):
            for k in range(i + 1, j + 1):
                inverse[:, i, j] -= factor[:, i, k] * inverse[:, i, i] * inverse[:, k, j]
    return inverse


def whiten_facets(partition: Partition, inverse: Array) -> tuple[Array, Array]:
    """Unit normals ``(F, S)`` and offsets ``(F,)`` of the facets in w = C (u - c)."""
    facets = partition.facets
    if facets is None:
        return np.zeros((0, partition.latent_dim)), np.zeros(0)
    owner = np.repeat(np.arange(partition.num_regions), facets.count)
    offsets = facets.offsets - np.einsum("fs,fs->f", facets.normals, partition.anchors[owner])
    normals = np.einsum("fs,fst->ft", facets.normals, inverse[owner])
    norm = np.sqrt(np.einsum("fs,fs->f", normals, normals))
    return normals / norm[:, None], offsets / norm


def whiten(folded: FoldedGenerator, partition: Partition) -> RegionGeometry:
    """Whiten all regions of a generator.

    Args:
        folded: The generator.
        partition: Its regions.

    Returns:
        What the kernels need, region by region.
    """
    values, jacobian, _ = output_maps(folded, partition.anchors, partition.codes)
    size, dim, width = jacobian.shape
    anchors = partition.anchors
    basis, factor = orthogonalise(jacobian)
    if dim == 1:
        ends = np.stack([partition.edges[:-1], partition.edges[1:]], 1)
        corners = (ends - anchors) * factor[:, 0]
    else:
        owner = np.repeat(np.arange(size), partition.count)
        offset = partition.vertices - anchors[owner]
        corners = np.einsum("vst,vt->vs", factor[owner], offset)
    inverse = invert(factor)
    normals, offsets = whiten_facets(partition, inverse)
    projection = np.concatenate([values[:, None], basis[:, :, :width]], axis=1)
    shift = np.einsum("rsk,rk->rs", basis[:, :, :width], values)
    shift += np.einsum("rst,rt->rs", basis[:, :, width:], anchors)
    return RegionGeometry(
        values=np.ascontiguousarray(values),
        anchors=np.ascontiguousarray(anchors),
        basis=np.ascontiguousarray(basis),
        factor=factor,
        inverse=inverse,
        log_det=np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1),
        corners=np.ascontiguousarray(corners),
        normals=normals,
        offsets=offsets,
        projection=np.ascontiguousarray(
            projection.transpose(2, 1, 0).reshape(width, size * (dim + 1))
        ),
        shift=np.ascontiguousarray(shift),
        square=(values**2).sum(1) + (anchors**2).sum(1),
    )
