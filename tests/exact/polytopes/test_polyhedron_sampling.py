"""Exact draws within one polyhedron, near and far, against exact moments and distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import ConvexHull

from pyrolvm.exact.polytopes.polyhedron_kernel import polyhedron_pairs
from pyrolvm.exact.polytopes.polyhedron_sampling import draw_polyhedra
from pyrolvm.exact.special import interval_moments

BOX_FACETS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)


def region(points, normals, facets):
    """One region with an identity for its maps, as the kernels take it."""
    index = np.zeros(1, dtype=np.int64)
    count = np.array([len(facet) for facet in facets])
    offsets = np.array([n @ points[f[0]] for n, f in zip(normals, facets, strict=True)])
    cell = (index, index + len(points))
    sides = (
        index, index + len(facets), np.ascontiguousarray(normals), offsets,
        np.cumsum(count) - count, count, np.concatenate(facets).astype(np.int64),
    )  # fmt: skip
    return np.ascontiguousarray(points), cell, sides


def simplex_region(points):
    found = ConvexHull(points)
    facets = []
    for triangle, equation in zip(found.simplices, found.equations, strict=True):
        a, b, c = points[triangle]
        ordered = np.cross(b - a, c - a) @ equation[:3] > 0
        facets.append(triangle if ordered else triangle[::-1])
    return region(points, found.equations[:, :3], facets)


def box_region(low, high, turn):
    signs = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    points = np.where(signs > 0, high, low)
    normals = np.kron(np.eye(3), [[-1.0], [1.0]])
    return region(points @ turn.T, normals @ turn.T, BOX_FACETS)


def exact_moments(points, cell, sides):
    eye, none = np.eye(3)[None].copy(), np.zeros((1, 3))
    found = polyhedron_pairs(
        np.zeros((1, 0)), np.zeros(1), 40.0, np.zeros((0, 4)), np.zeros((1, 0)), none, eye, eye,
        np.zeros(1), points, none, np.zeros(1), *cell, *sides,
    )  # fmt: skip
    covariance = np.empty((3, 3))
    rows, columns = np.triu_indices(3)
    covariance[rows, columns] = covariance[columns, rows] = found[4][0, 4:]
    return found[4][0, 1:4], covariance


def draws(points, cell, sides, num, seed=0):
    eye, out = np.eye(3)[None].copy(), np.empty((num, 1, 3))
    draw_polyhedra(
        seed, 0, num, np.zeros((1, 0)), np.array([0, 1]), np.zeros(1, np.int32), np.ones(1),
        np.zeros((1, 0)), np.zeros((1, 3)), eye, eye, points, *cell, *sides, out,
    )  # fmt: skip
    return out[:, 0]


def rotation(seed):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return turn * np.sign(np.linalg.det(turn))


@pytest.mark.parametrize("distance", [0.0, 0.5, 3.0, 30.0, 1e3])
@pytest.mark.parametrize("size", [0.1, 3.0])
def test_draws_have_the_exact_moments(distance, size):
    random = np.random.default_rng(int(distance + 10 * size))
    points = size * random.normal(size=(7, 3)) * (1.0, 0.3, 0.1) @ rotation(1).T
    points = points[ConvexHull(points).vertices]
    points += (distance - points[:, 0].min() if distance else -points[:, 0].mean(), 0.1, 0.2)
    shape = simplex_region(points)
    mean, covariance = exact_moments(*shape)
    num = 4000
    w = draws(*shape, num)
    normals, offsets = shape[2][2], shape[2][3]
    assert (w @ normals.T - offsets).max() < 1e-13 * (1 + distance)
    error = np.sqrt(np.diag(covariance) / num)
    assert np.all(np.abs(w.mean(0) - mean) < 5 * error)
    rest = w - mean
    products = rest[:, :, None] * rest[:, None, :]
    assert np.all(np.abs(products.mean(0) - covariance) < 5 * products.std(0) / np.sqrt(num))


@pytest.mark.parametrize("distance", [0.0, 2.0, 12.0, 200.0])
def test_coordinates_of_a_box_are_truncated_normal(distance):
    turn = rotation(2)
    low = np.array([distance, -0.4, 0.3 * distance])
    high = low + np.array([2.0, 1.5, 30.0])
    w = draws(*box_region(low, high, turn), 1500) @ turn
    for column, a, b in zip(w.T, low, high, strict=True):

        def distribution(values, a=a, b=b):
            base, mass, _, _ = interval_moments(a, b)
            rest = [interval_moments(min(max(v, a), b), b)[:2] for v in values]
            scale = [np.exp(-0.5 * (far - base) * (far + base)) for far, _ in rest]
            tails = np.array([m for _, m in rest]) * scale
            return 1 - tails / mass

        assert stats.kstest(column, distribution).pvalue > 1e-5


def test_the_same_seed_gives_the_same_draws_and_another_does_not():
    shape = box_region(np.full(3, 1.0), np.full(3, 2.0), rotation(3))
    np.testing.assert_array_equal(draws(*shape, 50, seed=4), draws(*shape, 50, seed=4))
    assert not np.array_equal(draws(*shape, 50, seed=4), draws(*shape, 50, seed=5))
