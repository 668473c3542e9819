"""The affine regions of a generator: intervals, polygons or polytopes in up to 5 dimensions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from torch import Tensor, from_numpy

from pyrolvm.core.errors import require_at_least
from pyrolvm.exact import intervals, polygons
from pyrolvm.exact.errors import LatentDimensionError, PartitionMismatchError
from pyrolvm.exact.folding import Array, FoldedGenerator, fold
from pyrolvm.exact.polygons import Index
from pyrolvm.exact.polytopes import polytopes
from pyrolvm.exact.polytopes.polytopes import Facets
from pyrolvm.exact.propagation import Codes, output_maps
from pyrolvm.exact.stack import AffineStack

MAX_LATENT_DIM = 5
DEFAULT_MAX_REGIONS = 100_000


@dataclass(frozen=True)
class Partition:
    """Affine regions of one generator, in whitened latent coordinates u with z = loc + L u.

    It depends on the hidden layers and the prior, not on the last layer and the noise.

    Attributes:
        latent_dim: S, from 1 to 5.
        box: Half the side of the box that holds the regions; infinite for one latent coordinate.
        edges: Breakpoints from -inf to inf, ``(R + 1,)``; empty for more latent coordinates.
        vertices: Vertices of all regions, ``(V, S)``, counter-clockwise if S = 2 and in no order
            if S is larger; empty for one latent.
        first: Index of each region's first vertex, ``(R,)``.
        count: Number of vertices of each region, ``(R,)``.
        facets: Facets of the regions for three and more latent coordinates, otherwise None.
        anchors: One point of each region, ``(R, S)``.
        codes: Whether each hidden unit is positive on the region, ``(R, units)``.
        max_regions: The limit that it was made under.
        fingerprint: Digest of hidden layers and prior.
    """

    latent_dim: int
    box: float
    edges: Array
    vertices: Array
    first: Index
    count: Index
    facets: Facets | None
    anchors: Array
    codes: Codes
    max_regions: int
    fingerprint: str

    @classmethod
    def of(
        cls,
        stack: AffineStack,
        *,
        box: float | None = None,
        max_regions: int = DEFAULT_MAX_REGIONS,
    ) -> Partition:
        """Find the regions of a generator.

        Args:
            stack: The generator.
            box: Half the side of the box for two and more latent coordinates, in prior standard
                deviations; see :func:`default_box` for what None means.
            max_regions: Most regions allowed.

        Returns:
            The partition; hand it to :func:`solve` to save finding it again.

        Raises:
            RegionLimitError: If there are more regions than allowed.
            LatentDimensionError: If there are more than 5 latent coordinates.
        """
        return find_partition(fold(stack), box, max_regions)

    @property
    def num_regions(self) -> int:
        """Number of regions R."""
        return len(self.anchors)

    def check(self, folded: FoldedGenerator) -> None:
        """Refuse a partition that belongs to another generator.

        Raises:
            PartitionMismatchError: If hidden layers or prior differ.
        """
        if self.fingerprint != fingerprint(folded):
            raise PartitionMismatchError(
                "solve was given a partition of another generator: hidden layers or prior have "
                "changed since. Call Partition.of(stack) again."
            )


@dataclass(frozen=True)
class LatentRegions:
    """Regions in the model's own latent coordinates, for pictures and checks.

    Attributes:
        breakpoints: Kinks of a generator with one latent, ``(R - 1,)``; empty for more.
        cells: Vertices of each region ``(V_r, S)``, counter-clockwise if S = 2 and in no order if
            S is larger; empty for one latent.
        matrices: A of g(z) = A z + b on each region, ``(R, D, S)``.
        offsets: b, ``(R, D)``.
    """

    breakpoints: Tensor
    cells: tuple[Tensor, ...]
    matrices: Tensor
    offsets: Tensor

    @property
    def polygons(self) -> tuple[Tensor, ...]:
        """The cells of a generator with two latents ``(V_r, 2)``; empty for any other."""
        return self.cells if self.matrices.shape[-1] == 2 else ()


def fingerprint(folded: FoldedGenerator) -> str:
    """Digest of what a partition depends on: hidden layers, slopes and prior."""
    digest = hashlib.blake2b(repr(folded.slopes).encode(), digest_size=16)
    for array in (*folded.weights, *folded.biases, folded.prior_loc, folded.prior_scale_tril):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def default_box(latent_dim: int) -> float:
    """Half the side of the first box: 16 for two latents, 8 for more, where each cell costs."""
    return 16.0 if latent_dim <= 2 else 8.0


def find_partition(folded: FoldedGenerator, box: float | None, max_regions: int) -> Partition:
    """Find the regions of a folded generator; see :meth:`Partition.of`."""
    require_at_least(1, max_regions=max_regions)
    dim = folded.latent_dim
    if dim > MAX_LATENT_DIM:
        raise LatentDimensionError(
            f"Affine regions are enumerated for 1 to {MAX_LATENT_DIM} latent dimensions, but this "
            f"generator has {dim}; guides.LineGibbs draws from the exact posterior in any."
        )
    none, box = np.zeros(0, dtype=np.int64), default_box(dim) if box is None else box
    edges, vertices, first, count, facets = np.zeros(0), np.zeros((0, dim)), none, none, None
    if dim == 1:
        edges, codes = intervals.sweep(folded, max_regions)
        anchors, box = intervals.anchors_of(edges)[:, None], np.inf
    elif dim == 2:
        vertices, first, count, codes = polygons.cut(folded, box, max_regions)
        anchors = polygons.anchors_of(vertices, first, count)
    else:
        vertices, first, count, codes, anchors, facets = polytopes.cut(folded, box, max_regions)
    return Partition(
        latent_dim=dim,
        box=box,
        edges=edges,
        vertices=vertices,
        first=first,
        count=count,
        facets=facets,
        anchors=anchors,
        codes=codes,
        max_regions=max_regions,
        fingerprint=fingerprint(folded),
    )


def latent_regions(partition: Partition, folded: FoldedGenerator) -> LatentRegions:
    """Express a partition and its affine maps in the model's latent coordinates.

    Args:
        partition: The regions.
        folded: The generator that they belong to.

    Returns:
        Breakpoints or cells, and the affine maps of g.
    """
    value, jacobian, _ = output_maps(folded, partition.anchors, partition.codes)
    if folded.basis is not None:
        value, jacobian = value @ folded.basis.T, jacobian @ folded.basis.T
    value = value * folded.noise_scale + folded.last_bias
    jacobian = jacobian * folded.noise_scale
    matrices = np.linalg.inv(folded.prior_scale_tril).T @ jacobian
    anchors = folded.to_latent(partition.anchors)
    offsets = value - np.einsum("rsd,rs->rd", matrices, anchors)
    bounds = np.cumsum(partition.count)[:-1]
    corners = (
        np.split(folded.to_latent(partition.vertices), bounds)
        if len(bounds) or len(partition.count)
        else []
    )
    breakpoints = (
        folded.to_latent(partition.edges[1:-1, None])[:, 0]
        if partition.latent_dim == 1
        else np.zeros(0)
    )
    return LatentRegions(
        breakpoints=from_numpy(np.ascontiguousarray(breakpoints)),
        cells=tuple(from_numpy(np.ascontiguousarray(c)) for c in corners),
        matrices=from_numpy(np.ascontiguousarray(matrices.transpose(0, 2, 1))),
        offsets=from_numpy(offsets),
    )
