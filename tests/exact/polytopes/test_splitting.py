"""Polytopes: the maps on them, their number, their facets, and that they tile the box."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from pyrolvm.exact import AffineStack, LatentDimensionError, Partition, RegionLimitError
from pyrolvm.exact.folding import FoldedGenerator, fold
from pyrolvm.exact.geometry import whiten
from pyrolvm.exact.partition import latent_regions
from pyrolvm.exact.polytopes.incidence_kernel import BITS
from pyrolvm.exact.propagation import output_maps

Array = NDArray[np.float64]

NETS = [
    (3, (7, 6), "relu"),
    (3, (4, 4, 4), "leaky_relu"),
    (3, (6, 5), "abs"),
    (4, (6, 5), "relu"),
    (4, (7,), "abs"),
    (5, (6, 3), "leaky_relu"),
]


def stack_of(
    weights: list[Array], biases: list[Array], slopes: list[float], noise: float = 0.5
) -> AffineStack:
    """Generator with a standard prior from arrays."""
    dim = weights[0].shape[1]
    eye = torch.eye(dim, dtype=torch.float64)
    return AffineStack(
        tuple(torch.tensor(w, dtype=torch.float64) for w in weights),
        tuple(torch.tensor(b, dtype=torch.float64) for b in biases),
        tuple(slopes),
        torch.tensor(noise, dtype=torch.float64),
        torch.zeros(dim, dtype=torch.float64),
        eye,
    )


def cells(partition: Partition) -> Iterator[tuple[Array, slice]]:
    """Vertices and the range of facets of each region."""
    assert partition.facets is not None
    for r in range(partition.num_regions):
        first, start = partition.first[r], partition.facets.first[r]
        vertices = partition.vertices[first : first + partition.count[r]]
        yield vertices, slice(start, start + partition.facets.count[r])


def facet_corners(partition: Partition, facet: int, vertices: Array) -> Array:
    assert partition.facets is not None
    start = partition.facets.corner_first[facet]
    size = partition.facets.corner_count[facet]
    return vertices[partition.facets.corners[start : start + size]]


def volume(vertices: Array) -> float:
    return float(ConvexHull(vertices, qhull_options="Qt").volume)


def check_tiling(partition: Partition) -> None:
    """The volumes add up, the codes differ, and facets are supporting planes through corners."""
    facets, dim = partition.facets, partition.latent_dim
    assert facets is not None
    total = 0.0
    for vertices, span in cells(partition):
        assert len(vertices) > dim
        assert facets.corner_count[span].min() >= dim
        total += volume(vertices)
        gap = facets.offsets[span] - vertices @ facets.normals[span].T
        assert gap.min() > -1e-10
        for facet in range(span.start, span.stop):
            corners = facet_corners(partition, facet, vertices)
            away = facets.offsets[facet] - corners @ facets.normals[facet]
            assert np.abs(away).max() < 1e-10
    assert total == pytest.approx((2 * partition.box) ** dim, rel=1e-10)
    assert len(np.unique(partition.codes, axis=0)) == partition.num_regions
    np.testing.assert_allclose(np.linalg.norm(facets.normals, axis=1), 1.0, rtol=1e-14)


def search(folded: FoldedGenerator, box: float) -> set[bytes]:
    """Codes of all regions by linear programs: unit after unit, is there a ball on either side?"""
    dim = folded.latent_dim
    found = set()

    def radius(rows: Array, right: Array) -> float:
        matrix = np.hstack([rows, np.linalg.norm(rows, axis=1)[:, None]])
        cost = np.append(np.zeros(dim), -1.0)
        result = linprog(cost, matrix, right, bounds=[(None, None)] * dim + [(0, None)])
        return 0.0 if result.x is None else float(result.x[-1])

    def descend(
        layer: int,
        unit: int,
        maps: tuple[Array, Array],
        signs: list[bool],
        sides: Array,
        rights: Array,
    ) -> None:
        if layer == len(folded.weights):
            found.add(np.array(signs, dtype=np.bool_).tobytes())
            return
        slope, width = folded.slopes[layer], len(folded.biases[layer])
        matrix = folded.weights[layer] @ maps[0]
        offset = folded.weights[layer] @ maps[1] + folded.biases[layer]
        if unit == width:
            gains = np.where(signs[-width:], 1.0, slope)
            descend(layer + 1, 0, (gains[:, None] * matrix, gains * offset), signs, sides, rights)
            return
        for positive in (False, True):
            sign = -1.0 if positive else 1.0
            rows = np.vstack([sides, sign * matrix[unit]])
            limits = np.append(rights, -sign * offset[unit])
            if radius(rows, limits) > 1e-7:
                descend(layer, unit + 1, maps, [*signs, positive], rows, limits)

    eye = np.eye(dim)
    descend(0, 0, (eye, np.zeros(dim)), [], np.vstack([eye, -eye]), np.full(2 * dim, box))
    return found


@pytest.mark.parametrize(("dim", "hidden", "activation"), NETS)
def test_cells_tile_the_box_without_gap_or_overlap(random_stack, dim, hidden, activation):
    partition = Partition.of(random_stack(dim, hidden, 4, activation=activation, seed=4))
    assert partition.num_regions > 40
    check_tiling(partition)


@pytest.mark.parametrize(("dim", "hidden", "activation"), NETS)
def test_random_points_lie_in_the_cell_of_their_code(random_stack, dim, hidden, activation):
    stack = random_stack(dim, hidden, 4, activation=activation, seed=5)
    folded, partition = fold(stack), Partition.of(stack)
    facets = partition.facets
    points = np.random.default_rng(0).uniform(-partition.box, partition.box, (500, dim))
    points[::2] /= 4
    _, _, codes = output_maps(folded, points)
    index = {code.tobytes(): r for r, code in enumerate(partition.codes)}
    for point, code in zip(points, codes, strict=True):
        r = index[code.tobytes()]
        span = slice(facets.first[r], facets.first[r] + facets.count[r])
        assert (facets.normals[span] @ point <= facets.offsets[span] + 1e-11).all()


@pytest.mark.parametrize(("dim", "hidden", "activation"), NETS)
def test_affine_maps_agree_with_the_network(random_stack, dim, hidden, activation):
    stack = random_stack(dim, hidden, 4, activation=activation, seed=6)
    folded, partition = fold(stack), Partition.of(stack)
    regions = latent_regions(partition, folded)
    index = {code.tobytes(): r for r, code in enumerate(partition.codes)}
    random = torch.Generator().manual_seed(0)
    z = torch.randn(10_000, dim, generator=random, dtype=torch.float64)
    z = stack.prior_loc + z @ stack.prior_scale_tril.mT
    _, _, codes = output_maps(folded, folded.to_whitened(z.numpy()))
    region = torch.tensor([index[code.tobytes()] for code in codes])
    value = torch.einsum("nds,ns->nd", regions.matrices[region], z) + regions.offsets[region]
    truth = stack.forward(z)
    assert ((value - truth).abs() / (1 + truth.abs())).max() < 1e-12
    assert len(torch.unique(region)) > 10


@pytest.mark.parametrize(("dim", "units"), [(2, 9), (3, 8), (3, 12), (4, 9), (5, 7)])
def test_one_generic_layer_has_the_combinatorial_number_of_regions(random_stack, dim, units):
    partition = Partition.of(random_stack(dim, (units,), 3, seed=units), box=1e7)
    assert partition.num_regions == sum(comb(units, i) for i in range(dim + 1))


@pytest.mark.parametrize(
    ("dim", "hidden", "activation"),
    [(2, (6, 5), "relu"), (3, (4, 4), "relu"), (3, (4, 3), "abs"), (4, (4, 3), "leaky_relu")],
)
def test_codes_are_those_of_a_search_by_linear_programs(random_stack, dim, hidden, activation):
    stack = random_stack(dim, hidden, 3, activation=activation, seed=8)
    partition = Partition.of(stack, box=8.0)
    found = {code.tobytes() for code in partition.codes}
    assert len(found) == partition.num_regions > 30
    assert found == search(fold(stack), 8.0)


def test_corners_turn_counter_clockwise_seen_from_outside(random_stack):
    partition = Partition.of(random_stack(3, (6, 6), 3, seed=2))
    for vertices, span in cells(partition):
        for facet in range(span.start, span.stop):
            corners = facet_corners(partition, facet, vertices)
            edges = np.roll(corners, -1, 0) - corners
            turns = np.cross(edges, np.roll(edges, -1, 0)) @ partition.facets.normals[facet]
            assert turns.min() > -1e-12
            assert turns.max() > 0


def test_facets_name_the_unit_or_the_face_that_makes_them(random_stack):
    stack = random_stack(3, (6, 5), 3, seed=3)
    folded, partition = fold(stack), Partition.of(stack)
    facets = partition.facets
    units = sum(len(bias) for bias in folded.biases)
    assert set(facets.sources) == {*range(-6, units)}
    upper = facets.sources == -3
    np.testing.assert_array_equal(
        facets.normals[upper], np.tile([0.0, 1.0, 0.0], (upper.sum(), 1))
    )
    for r, (vertices, span) in enumerate(cells(partition)):
        for facet in range(span.start, span.stop):
            if facets.sources[facet] >= 0:
                middle = facet_corners(partition, facet, vertices).mean(0)
                beyond = middle + 1e-7 * facets.normals[facet]
                _, _, code = output_maps(folded, beyond[None])
                differs = code[0] != partition.codes[r]
                assert differs[facets.sources[facet]]


def test_anchors_lie_inside_their_cells(random_stack):
    partition = Partition.of(random_stack(4, (6, 5), 3, seed=3))
    facets = partition.facets
    owner = np.repeat(np.arange(partition.num_regions), facets.count)
    away = facets.offsets - (facets.normals * partition.anchors[owner]).sum(1)
    assert away.min() > 0


@pytest.mark.parametrize("dim", [3, 4, 5])
def test_a_linear_generator_has_the_box_as_its_one_region(random_stack, dim):
    partition = Partition.of(random_stack(dim, (), 4))
    assert partition.num_regions == 1
    assert partition.count[0] == 2**dim
    assert partition.facets.count[0] == 2 * dim
    np.testing.assert_allclose(partition.anchors[0], 0.0, atol=1e-12)
    check_tiling(partition)


@pytest.mark.parametrize("dim", [3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nearly_coincident_planes_leave_no_gap_and_no_overlap(dim, seed):
    random = np.random.default_rng(seed)

    def nearly_whole(*shape: int) -> Array:
        return random.integers(-1, 2, shape) + 1e-12 * random.normal(size=shape)

    weights = [nearly_whole(5, dim), nearly_whole(4, 5), np.ones((1, 4))]
    biases = [0.5 * nearly_whole(5), 0.5 * nearly_whole(4), np.zeros(1)]
    partition = Partition.of(stack_of(weights, biases, [0.0, -1.0]))
    points = random.uniform(-2, 2, (2000, dim))
    covers = np.zeros((2, len(points)))
    for _, span in cells(partition):
        gap = partition.facets.offsets[span] - points @ partition.facets.normals[span].T
        covers += np.stack([gap.min(1) > 1e-10, gap.min(1) > -1e-10])
    assert covers[0].max() == covers[1].min() == 1
    assert partition.num_regions > 10


def test_a_layer_of_slope_one_cuts_nothing(random_stack):
    plain = random_stack(3, (6,), 3, seed=2)
    eye, zero = torch.eye(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    longer = AffineStack(
        (plain.weights[0], eye, plain.weights[1]),
        (plain.biases[0], zero, plain.biases[1]),
        (0.0, 1.0),
        plain.noise_scale,
        plain.prior_loc,
        plain.prior_scale_tril,
    )
    np.testing.assert_array_equal(Partition.of(longer).vertices, Partition.of(plain).vertices)


class TestDegenerateNetworks:
    """Planes that coincide, vanish, or meet where more than S of them should not."""

    def count(self, first: Array, bias: Array, dim: int) -> int:
        partition = Partition.of(
            stack_of([first, np.ones((2, len(first)))], [bias, np.zeros(2)], [0.0])
        )
        check_tiling(partition)
        assert partition.latent_dim == dim
        return partition.num_regions

    @pytest.mark.parametrize("dim", [3, 4, 5])
    def test_planes_through_the_origin(self, dim):
        units = dim + 2
        weight = np.random.default_rng(1).normal(size=(units, dim))
        expected = 2 * sum(comb(units - 1, i) for i in range(dim))
        assert self.count(weight, np.zeros(units), dim) == expected

    def test_duplicate_and_opposite_units_cut_once(self):
        weight = np.random.default_rng(2).normal(size=(3, 3))
        doubled = np.vstack([weight, 2.0 * weight, -weight])
        bias = np.array([0.3, -0.2, 0.1])
        assert self.count(doubled, np.concatenate([bias, 2 * bias, -bias]), 3) == 8

    def test_dead_units_cut_nothing(self):
        weight = np.zeros((4, 3))
        weight[0] = [1.0, 2.0, -1.0]
        assert self.count(weight, np.array([0.1, 0.0, 1.0, -1.0]), 3) == 2

    def test_dead_pieces_of_a_deep_network(self):
        random = np.random.default_rng(3)
        weights = [random.normal(size=(4, 3)), random.normal(size=(5, 4)), np.ones((1, 5))]
        stack = stack_of(weights, [np.zeros(4), np.zeros(5), np.zeros(1)], [0.0, 0.0])
        check_tiling(Partition.of(stack))

    def test_parallel_planes(self):
        weight = np.vstack([np.tile([1.0, 1.0, 0.0], (3, 1)), [[0.0, 0.0, 1.0]]])
        assert self.count(weight, np.array([-1.0, 0.0, 1.0, 0.0]), 3) == 8

    @pytest.mark.parametrize("dim", [3, 4])
    def test_a_grid_whose_diagonals_pass_through_its_vertices(self, dim):
        axes = np.repeat(np.eye(dim), 3, axis=0)
        steps = np.tile([-1.0, 0.0, 1.0], dim)
        diagonal = np.zeros((2, dim))
        diagonal[0, :2], diagonal[1, :2] = [1.0, -1.0], [1.0, 1.0]
        weight = np.vstack([axes, diagonal])
        # two diagonals of the 4 x 4 squares of a plane: of the 16, 8 are cut in two
        assert self.count(weight, np.append(steps, [0.0, 0.0]), dim) == 24 * 4 ** (dim - 2)

    @pytest.mark.parametrize("shift", [1e-9, 1e-11, 1e-12, 1e-13, 1e-15])
    def test_planes_that_nearly_meet_in_a_vertex(self, shift):
        weight = np.vstack([np.eye(3), np.ones((1, 3)), [[1.0, -1.0, 0.5]], [[1.0, 1.0, -2.0]]])
        bias = np.array([0.0, 0.0, 0.0, shift, -shift, 0.3 * shift])
        partition = Partition.of(stack_of([weight, np.ones((1, 6))], [bias, np.zeros(1)], [0.0]))
        total = sum(float(ConvexHull(v, qhull_options="QJ").volume) for v, _ in cells(partition))
        assert total == pytest.approx(16.0**3, rel=1e-7)
        assert len(np.unique(partition.codes, axis=0)) == partition.num_regions


def test_more_facets_than_a_word_holds():
    sphere = np.random.default_rng(0).normal(size=(72, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    stack = stack_of([sphere, np.ones((1, 72))], [-np.ones(72), np.zeros(1)], [0.0])
    partition = Partition.of(stack, box=1.25)
    check_tiling(partition)
    (inner,) = np.flatnonzero(~partition.codes.any(1))
    hull = ConvexHull(list(cells(partition))[inner][0])
    found = partition.facets.count[inner]
    assert found == len(np.unique(hull.equations.round(6), axis=0)) > BITS


def test_whitened_facets_bound_the_whitened_corners(random_stack):
    stack = random_stack(4, (6, 4), 3, 0.05, seed=1)
    partition = Partition.of(stack)
    geometry = whiten(fold(stack), partition)
    np.testing.assert_allclose(np.linalg.norm(geometry.normals, axis=1), 1.0, rtol=1e-13)
    for r, (vertices, span) in enumerate(cells(partition)):
        expected = (vertices - partition.anchors[r]) @ geometry.factor[r].T
        first = partition.first[r]
        corners = geometry.corners[first : first + len(vertices)]
        np.testing.assert_allclose(corners, expected, rtol=1e-12, atol=1e-10)
        away = geometry.offsets[span] - corners @ geometry.normals[span].T
        assert away.min() > -1e-9
        assert (np.sort(np.abs(away), 0)[3] < 1e-9).all()


def test_too_many_polytopes_are_refused_with_an_estimate(random_stack):
    with pytest.raises(RegionLimitError, match=r"of 32 hidden .* expect about .* MiB"):
        Partition.of(random_stack(3, (16, 16), 5), max_regions=50)


def test_six_latents_are_refused_with_the_sampler_that_serves(random_stack):
    with pytest.raises(LatentDimensionError, match=r"1 to 5 latent .* has 6; guides.LineGibbs"):
        Partition.of(random_stack(6, (4,), 3))
