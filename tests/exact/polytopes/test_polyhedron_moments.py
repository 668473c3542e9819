"""Gaussian moments of convex polyhedra, by a second route."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import mpmath
import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection

from pyrolvm.exact.polytopes.polyhedron_flags import make_tables, trace_flags
from pyrolvm.exact.polytopes.polyhedron_moments import closed_moments
from pyrolvm.exact.polytopes.polyhedron_regions import centre
from pyrolvm.exact.polytopes.polyhedron_slices import polyhedron_slices
from pyrolvm.exact.special import interval_moments


@dataclass
class Polyhedron:
    points: np.ndarray
    normals: np.ndarray
    first: np.ndarray
    count: np.ndarray
    corners: np.ndarray

    def trace(self):
        facets = len(self.count)
        tables = make_tables(len(self.points), facets, len(self.corners))
        _, flags, ends, planes, pairs = tables
        number, *near = trace_flags(
            self.points, len(self.points), 0, facets, self.normals, self.first, self.count,
            self.corners, flags, ends, planes, pairs,
        )  # fmt: skip
        return number, np.array(near), flags, ends, planes

    def closed(self, effort=2):
        """Moments about the nearest point by the closed form, and that point."""
        number, near, flags, ends, planes = self.trace()
        facets, out = len(self.count), np.empty(10)
        closed_moments(
            flags, ends, number, planes, 0, facets, self.normals, near @ near, effort,
            np.empty((facets, 3)), out,
        )  # fmt: skip
        centre(out, near)
        return out, near

    def sliced(self):
        """The same by slices."""
        number, near, _, ends, _ = self.trace()
        out = np.empty(10)
        polyhedron_slices(self.points, len(self.points), ends, number, len(self.count), near, out)
        return out, near

    def contains(self, w):
        heights = [
            n @ self.points[self.corners[f]] for n, f in zip(self.normals, self.first, strict=True)
        ]
        return (w @ self.normals.T <= heights).all(1)


def make(points, normals, facets):
    count = np.array([len(f) for f in facets])
    first = np.cumsum(count) - count
    corners = np.concatenate(facets).astype(np.int64)
    return Polyhedron(np.array(points), np.array(normals), first, count, corners)


def hull(points):
    """Convex hull, with coplanar triangles merged to facets."""
    found = ConvexHull(points)
    points = np.asarray(points)[found.vertices]
    normals, facets = [], []
    scale = np.abs(points).max()
    for *normal, offset in found.equations:
        if any(np.abs(np.subtract(normal, n)).max() < 1e-9 for n in normals):
            continue
        on = np.flatnonzero(np.abs(points @ normal + offset) < 1e-10 * scale)
        facets.append(on[around(points[on], np.array(normal))])
        normals.append(normal)
    return make(points, normals, facets)


def around(points, normal):
    """Order of a facet's vertices, counter-clockwise seen from outside."""
    offset = points - points.mean(0)
    axis = offset[0] / np.linalg.norm(offset[0])
    return np.argsort(np.arctan2(offset @ np.cross(normal, axis), offset @ axis))


def rotation(seed):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return turn * np.sign(np.linalg.det(turn))


BOX_FACETS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)


def box(low, high, turn):
    signs = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    points = np.where(signs > 0, high, low)
    normals = np.kron(np.eye(3), [[-1.0], [1.0]])
    return make(points @ turn.T, normals @ turn.T, BOX_FACETS)


def box_moments(low, high, turn, near):
    """Products of moments on intervals, about ``near``, with its scale."""
    parts = [interval_moments(a, b) for a, b in zip(low, high, strict=True)]
    base, mass, first, second = np.array(parts).T
    scale = np.exp(-0.5 * ((base - turn.T @ near) @ (base + turn.T @ near)))
    mean = first / mass
    covariance = turn @ np.diag(second / mass - mean**2) @ turn.T
    mean = turn @ (base + mean) - near
    total = scale * mass.prod()
    return total, mean, covariance


def normalised(moments):
    mean, square = moments[1:4] / moments[0], np.empty((3, 3))
    square[np.triu_indices(3)] = moments[4:] / moments[0]
    square = np.triu(square) + np.triu(square, 1).T
    return moments[0], mean, square - np.outer(mean, mean)


def random_box(random, distance, widths):
    low = -widths * random.uniform(size=3)
    away = random.integers(0, 4)
    direction = np.where(np.arange(3) < away, random.uniform(0.1, 1.0, 3), 0.0)
    if away and distance > 0:
        low[:away] = distance * direction[:away] / np.linalg.norm(direction)
    return low, low + widths


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.4, 2.6, 5.0, 12.0])
def test_closed_form_of_boxes_is_a_product(distance):
    random = np.random.default_rng(int(10 * distance))
    for seed in range(60):
        turn = rotation(seed) if seed % 3 else np.eye(3)
        low, high = random_box(random, distance, 10 ** random.uniform(-1, 2, 3))
        found, near = box(low, high, turn).closed()
        total, mean, covariance = box_moments(low, high, turn, near)
        limit = 1e-14 * (1 + near @ near)
        assert abs(found[0] - total) < 1e-14
        np.testing.assert_allclose(found[1:4], total * mean, rtol=0, atol=limit)
        second = total * (covariance + np.outer(mean, mean))[np.triu_indices(3)]
        np.testing.assert_allclose(found[4:], second, rtol=0, atol=limit)


@pytest.mark.parametrize("distance", [0.0, 2.0, 30.0, 1e3])
@pytest.mark.parametrize("thin", [1e-9, 1e-4, 1.0])
def test_slices_keep_the_relative_accuracy_of_boxes(distance, thin):
    random = np.random.default_rng(int(distance))
    for seed in range(6):
        turn = rotation(seed) if seed else np.eye(3)
        widths = 10 ** random.uniform(-2, 2, 3)
        widths[random.integers(3)] = thin
        low, high = random_box(random, distance, widths)
        found, near = box(low, high, turn).sliced()
        total, mean, covariance = box_moments(low, high, turn, near)
        # vertices are rounded to 1e-16 of their distance
        reach = np.abs([low, high]).max()
        limit = 1e-12 + 1e-15 * reach * (distance + 2 / (high - low).min())
        assert found[0] == pytest.approx(total, rel=limit)
        _, first, second = normalised(found)
        spread = np.sqrt(np.diag(covariance + np.outer(mean, mean)))
        assert np.all(np.abs(first - mean) < limit * spread + 1e-15 * reach)
        error = np.abs(second - covariance)
        assert np.all(error < 10 * limit * np.outer(spread, spread) + 1e-15 * spread.max() ** 2)


@pytest.mark.parametrize("size", [0.02, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("distance", [0.0, 1.0, 2.45, 4.0, 9.0])
def test_closed_form_and_slices_agree(size, distance):
    random = np.random.default_rng(int(100 * size + distance))
    for seed in range(5):
        points = random.normal(size=(random.integers(4, 11), 3)) * size
        points = points * 10 ** random.uniform(-2, 0, 3) @ rotation(seed).T
        points -= points.mean(0)
        if distance > 0:
            points -= points[points[:, 0].argmin()]
            points += (distance, *random.normal(size=2))
        polyhedron = hull(points)
        closed, near = polyhedron.closed()
        sliced, _ = polyhedron.sliced()
        limit = 1e-14 * (1 + near @ near)
        assert abs(closed[0] - sliced[0]) < 1e-14
        np.testing.assert_allclose(closed, sliced, rtol=0, atol=limit)


def test_less_effort_errs_by_as_much_as_it_says():
    random = np.random.default_rng(2)
    for seed in range(100):
        polyhedron = hull(
            random.normal(size=(8, 3)) * 10 ** random.uniform(-1, 1) + rotation(seed)[0]
        )
        best, _ = polyhedron.closed()
        np.testing.assert_allclose(polyhedron.closed(1)[0], best, rtol=0, atol=1e-11)
        np.testing.assert_allclose(polyhedron.closed(0)[0], best, rtol=0, atol=1e-5)


def monte_carlo(num):
    random = np.random.default_rng(5)
    w = random.normal(size=(num, 3))
    for seed in range(6):
        polyhedron = hull(random.normal(size=(4 if seed < 3 else 9, 3)) + 0.5 * rotation(seed)[0])
        inside = w[polyhedron.contains(w)]
        assert len(inside) > 100
        found, near = polyhedron.closed()
        mass, mean, covariance = normalised(found)
        mass *= np.exp(-0.5 * near @ near)
        assert abs(len(inside) / num - mass) < 5 * np.sqrt(mass * (1 - mass) / num)
        error = np.sqrt(np.diag(covariance) / len(inside))
        assert np.all(np.abs(inside.mean(0) - near - mean) < 5 * error)
        rest = inside - near - mean
        products = rest[:, :, None] * rest[:, None, :]
        error = products.std(0) / np.sqrt(len(inside))
        assert np.all(np.abs(products.mean(0) - covariance) < 5 * error)


def test_moments_match_monte_carlo():
    monte_carlo(300_000)


@pytest.mark.slow
def test_moments_match_much_monte_carlo():
    monte_carlo(10_000_000)


def cells_of_planes(normals, offsets, half):
    """Cells of an arrangement of planes in the box [-half, half]^3."""
    sides = np.concatenate([np.eye(3), -np.eye(3)])
    for signs in product([-1.0, 1.0], repeat=len(offsets)):
        faces = np.concatenate([np.array(signs)[:, None] * normals, sides])
        limits = np.concatenate([signs * offsets, np.full(6, half)])
        # the largest ball in the cell
        table = np.column_stack([faces, np.ones(len(faces))])
        bounds = [(None, None)] * 3 + [(0, None)]
        ball = linprog([0, 0, 0, -1], table, limits, bounds=bounds)
        if ball.status == 0 and ball.x[3] > 1e-9:
            space = np.column_stack([faces, -limits])
            vertices = HalfspaceIntersection(space, ball.x[:3]).intersections
            yield hull(np.unique(vertices.round(13), axis=0))


def test_cells_of_an_arrangement_sum_to_the_box():
    random = np.random.default_rng(1)
    normals = np.stack([rotation(k)[0] for k in range(5)])
    offsets = 0.7 * random.normal(size=5)
    half = 3.0
    total = np.zeros(10)
    cells = 0
    for cell in cells_of_planes(normals, offsets, half):
        moments, near = cell.closed()
        centre(moments, -near)
        total += moments * np.exp(-0.5 * near @ near)
        cells += 1
    assert cells > 15
    mass, _, covariance = box_moments([-half] * 3, [half] * 3, np.eye(3), np.zeros(3))
    assert total[0] == pytest.approx(mass, rel=1e-12)
    np.testing.assert_allclose(total[1:4], 0, atol=1e-12)
    second = mass * covariance[np.triu_indices(3)]
    np.testing.assert_allclose(total[4:], second, rtol=0, atol=1e-12)


def far_simplex(distance, size):
    """Corner at distance d on the first axis, three edges that open away from 0."""
    edges = np.array([[1.0, 1.0, 0.2], [0.8, -0.5, 0.7], [1.0, -0.1, -1.0]]) * size
    corner = np.array([distance, 0.0, 0.0])
    return corner, edges


@pytest.mark.parametrize(("distance", "size"), [(30.0, 0.3), (8.0, 1.0)])
def test_far_corner_matches_nested_quadrature(distance, size):
    corner, edges = far_simplex(distance, size)
    found, near = hull(np.vstack([corner, corner + edges])).sliced()
    np.testing.assert_allclose(near, corner, rtol=1e-15)
    volume = abs(np.linalg.det(edges))
    # the simplex as a cube, by Duffy's map, with nodes for the decay along it
    mpmath.mp.dps = 30
    node, weight = np.polynomial.legendre.leggauss(40)
    node, weight = 0.5 * (node + 1), 0.5 * weight
    cuts = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 12)])
    t = (cuts[:-1, None] + np.diff(cuts)[:, None] * node).ravel()
    w = (np.diff(cuts)[:, None] * weight).ravel()
    a, b, c = t[:, None, None], node[:, None], node
    along = a[..., None] * (
        (1 - b[..., None]) * edges[0]
        + b[..., None] * ((1 - c[..., None]) * edges[1] + c[..., None] * edges[2])
    )
    density = np.exp(-along[..., 0] * distance - 0.5 * (along**2).sum(-1))
    density *= w[:, None, None] * weight[:, None] * weight * a**2 * b
    mass = volume * density.sum() * (2 * np.pi) ** -1.5
    assert found[0] == pytest.approx(mass, rel=1e-12)
    mean = (density[..., None] * along).sum((0, 1, 2)) / density.sum()
    np.testing.assert_allclose(found[1:4] / found[0], mean, rtol=1e-11)


def test_orthant_far_out_matches_its_expansion():
    """Corner of three orthogonal faces on the diagonal: the cube of one tail."""
    distance = 30.0 / np.sqrt(3)
    low = np.full(3, distance)
    found, near = box(low, low + 50.0, rotation(4)).sliced()
    mpmath.mp.dps = 40
    tail = mpmath.erfc(mpmath.mpf(distance) / mpmath.sqrt(2)) / 2
    mass = float(tail**3 * mpmath.exp(mpmath.mpf(3 * distance**2) / 2))
    mass *= np.exp(0.5 * (near @ near - 3 * distance**2))
    assert found[0] == pytest.approx(mass, rel=1e-12)


@pytest.mark.parametrize(
    "shift", [(0, 0, 0), (-1, 0, 0), (-1, -1, 0), (-1, -1, -1), (-0.5, 0, -1)]
)
def test_vertices_edges_and_facets_may_lie_at_the_mean(shift):
    """The unit cube and 0 on its corner, edge or face, exactly."""
    low = np.array(shift, dtype=float)
    polyhedron = box(low, low + 1, np.eye(3))
    total, mean, _ = box_moments(low, low + 1, np.eye(3), np.zeros(3))
    for found, _ in (polyhedron.closed(), polyhedron.sliced()):
        assert found[0] == pytest.approx(total, rel=1e-13)
        np.testing.assert_allclose(found[1:4], total * mean, rtol=1e-12, atol=1e-15)


def test_coinciding_vertices_and_facets_without_area_change_nothing():
    plain = hull(np.random.default_rng(3).normal(size=(7, 3)))
    # double vertex 0: one facet keeps the old one, the others get the copy
    points = np.vstack([plain.points, plain.points[:1]])
    facets = [
        plain.corners[f : f + c].copy() for f, c in zip(plain.first, plain.count, strict=True)
    ]
    touching = [k for k, f in enumerate(facets) if 0 in f]
    changed = facets[touching[0]]
    place = int(np.flatnonzero(changed == 0)[0])
    facets[touching[0]] = np.insert(changed, place, len(plain.points))
    needle = np.array([0, len(plain.points), 0])
    normals = np.vstack([plain.normals, [1.0, 0.0, 0.0]])
    doubled = make(points, normals, [*facets, needle])
    np.testing.assert_allclose(doubled.closed()[0], plain.closed()[0], rtol=0, atol=1e-15)


def test_a_vertex_of_five_facets_is_no_special_case():
    angle = 2 * np.pi * np.arange(5) / 5
    base = np.column_stack([np.cos(angle), np.sin(angle), np.full(5, 4.0)])
    pyramid = hull(np.vstack([base, [[0.1, 0.2, 3.0]]]))
    assert sorted(pyramid.count) == [3, 3, 3, 3, 3, 5]
    closed, sliced = pyramid.closed()[0], pyramid.sliced()[0]
    np.testing.assert_allclose(closed, sliced, rtol=0, atol=1e-14)
    assert closed[0] > 1e-3
