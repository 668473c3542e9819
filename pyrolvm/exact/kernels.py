"""Which compiled kernels serve a latent dimension, with the arrays that they need of the regions.

Intervals (one latent) and polygons (two) are integrated in closed form, polyhedra (three) by
recursion over their facets, polytopes (four and more) by randomised lattices with an error.
"""

from __future__ import annotations

from collections.abc import Callable

from pyrolvm.exact.folding import Array
from pyrolvm.exact.geometry import RegionGeometry
from pyrolvm.exact.partition import Partition

# Shifts of the randomised lattices in four and more dimensions, the same for every call.
LATTICE_SEED = 20_201

Arrays = tuple[object, ...]


def integrator(
    geometry: RegionGeometry, partition: Partition
) -> tuple[Callable[..., tuple[Array, ...]], Arrays]:
    """Choose the kernel of the E-step.

    Args:
        geometry: The whitened regions.
        partition: The regions.

    Returns:
        The kernel, and what it takes after data, slack and the limit of what is kept. It gives log
        evidence, energy and number of pairs of each datum, regions and moments of the pairs, and
        in four and more dimensions the standard error of each log evidence.
    """
    g, p = geometry, partition
    if p.latent_dim == 1:
        from pyrolvm.exact.interval_kernel import interval_pairs

        return interval_pairs, (
            g.projection, g.values, g.anchors, g.basis, g.factor, g.log_det, g.corners,
            g.shift, g.square,
        )  # fmt: skip
    cells = (
        g.projection, g.values, g.anchors, g.basis, g.inverse, g.log_det, g.corners,
        g.shift, g.square, p.first, p.count,
    )  # fmt: skip
    if p.latent_dim == 2:
        from pyrolvm.exact.polygon_kernel import bounding_circles, polygon_pairs

        return polygon_pairs, (*cells, bounding_circles(g.corners, p.first, p.count))
    if p.latent_dim == 3:
        from pyrolvm.exact.polytopes.polyhedron_kernel import polyhedron_pairs

        return polyhedron_pairs, (*cells, *_facets(g, p))
    from pyrolvm.exact.polytopes.lattice_kernel import lattice_pairs

    return lattice_pairs, (*cells, *_facets(g, p), LATTICE_SEED)


def sampler(geometry: RegionGeometry, partition: Partition) -> tuple[Callable[..., None], Arrays]:
    """Choose the kernel that draws.

    Args:
        geometry: The whitened regions.
        partition: The regions.

    Returns:
        The kernel, and what it takes between the region probabilities and the draws.
    """
    g, p = geometry, partition
    if p.latent_dim == 1:
        from pyrolvm.exact.sampling_kernel import draw_intervals

        return draw_intervals, (g.values, g.anchors, g.basis, g.factor, g.corners)
    cells = (g.values, g.anchors, g.basis, g.inverse, g.corners, p.first, p.count)
    if p.latent_dim == 2:
        from pyrolvm.exact.sampling_kernel import draw_polygons

        return draw_polygons, cells
    if p.latent_dim == 3:
        from pyrolvm.exact.polytopes.polyhedron_sampling import draw_polyhedra

        return draw_polyhedra, (*cells, *_facets(g, p))
    from pyrolvm.exact.polytopes.lattice_sampling import draw_polytopes

    return draw_polytopes, (*cells, *_facets(g, p))


def _facets(geometry: RegionGeometry, partition: Partition) -> Arrays:
    facets = partition.facets
    if facets is None:
        return ()
    return (
        facets.first, facets.count, geometry.normals, geometry.offsets,
        facets.corner_first, facets.corner_count, facets.corners,
    )  # fmt: skip
