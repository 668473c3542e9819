"""Moments of normal variables on intervals and polygons, by a second route."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import special
from scipy.spatial import ConvexHull

from pyrolvm.exact.edge_moments import edge_moments, nearest_point, owen_t
from pyrolvm.exact.slice_moments import slice_moments
from pyrolvm.exact.special import erfcx, interval_moments


def interval_reference(low, high):
    mpmath.mp.dps = 50
    low, high = mpmath.mpf(low), mpmath.mpf(high)
    base = low if low > 0 else high if high < 0 else mpmath.mpf(0)
    upper = base >= 0

    def tail(v):
        return mpmath.erfc((v if upper else -v) / mpmath.sqrt(2)) / 2

    def density(v, power=0):
        if abs(v) == mpmath.inf:
            return mpmath.mpf(0)
        return v**power * mpmath.exp(-v * v / 2) / mpmath.sqrt(2 * mpmath.pi)

    mass = tail(low) - tail(high) if upper else tail(high) - tail(low)
    first = density(low) - density(high)
    second = mass + density(low, 1) - density(high, 1)
    scale = mpmath.exp(base * base / 2)
    moments = mass, first - base * mass, second - 2 * base * first + base**2 * mass
    return [float(scale * m) for m in moments]


@pytest.mark.parametrize("low", [-1e3, -40.0, -5.0, -1.0, -1e-3, 0.0, 0.5, 3.0, 8.0, 40.0, 1e3])
@pytest.mark.parametrize("width", [1e-6, 1e-2, 0.7, 2.5, 6.0, 80.0, np.inf])
def test_interval_moments_keep_their_relative_accuracy(low, width):
    _, mass, first, second = interval_moments(low, low + width)
    expected = interval_reference(low, low + width)
    assert mass == pytest.approx(expected[0], rel=1e-13)
    assert abs(first - expected[1]) < 1e-13 * (expected[0] * expected[2]) ** 0.5
    assert second == pytest.approx(expected[2], rel=1e-12)


def test_scaled_complementary_error_function_matches_scipy():
    x = np.concatenate([np.linspace(0, 12, 1500), [30.0, 1e3, 1e6]])
    np.testing.assert_allclose([erfcx(v) for v in x], special.erfcx(x), rtol=1e-14)


def test_owens_function_matches_scipy():
    random = np.random.default_rng(0)
    h, t = 10 ** random.uniform(-4, 0.5, 500), 10 ** random.uniform(-4, 2, 500)
    found = [owen_t(a, b) for a, b in zip(h, t, strict=True)]
    np.testing.assert_allclose(found, special.owens_t(h, t / h), rtol=0, atol=2e-16)


def random_polygon(random, size, thin, distance):
    points = random.normal(size=(random.integers(3, 9), 2)) * (size, size * thin)
    points = points[ConvexHull(points).vertices]
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = points @ turn.T
    points -= points.mean(0)
    if distance > 0:
        points -= points[points[:, 0].argmin()]
        points += (distance, min(size, 3.0) * random.normal())
    return points[:, 0].copy(), points[:, 1].copy()


@pytest.mark.parametrize("size", [0.01, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("distance", [0.0, 1.0, 2.4, 4.0, 6.0, 20.0])
def test_edge_sums_and_slices_agree(size, distance):
    random = np.random.default_rng(1)
    for _ in range(20):
        x, y = random_polygon(random, size, 10 ** random.uniform(-3, 0), distance)
        near_x, near_y, _ = nearest_point(x, y, len(x))
        square = near_x**2 + near_y**2
        mass, a, b, aa, ab, bb = edge_moments(x, y, len(x), square)
        aa += near_x * (near_x * mass - 2 * a)
        ab += near_x * near_y * mass - near_x * b - near_y * a
        bb += near_y * (near_y * mass - 2 * b)
        edges = [mass, a - near_x * mass, b - near_y * mass, aa, ab, bb]
        slices = slice_moments(x, y, len(x), near_x, near_y)
        np.testing.assert_allclose(edges, slices, rtol=0, atol=1e-15 * (20 + 50 * square))


@pytest.mark.parametrize("distance", [0.0, 3.0, 40.0, 1e3])
@pytest.mark.parametrize("width", [1e-9, 1e-3, 1.0])
def test_slices_keep_the_relative_accuracy_of_slivers(distance, width):
    """A rectangle, turned: its mass is a product of two interval masses."""
    angle = 0.7
    u = np.array([distance, distance + width, distance + width, distance])
    s = np.array([-2.0, -2.0, 1.0, 1.0])
    x = np.cos(angle) * u - np.sin(angle) * s
    y = np.sin(angle) * u + np.cos(angle) * s
    near_x, near_y, _ = nearest_point(x, y, 4)
    mass = slice_moments(x, y, 4, near_x, near_y)[0]
    _, radial, _, _ = interval_moments(distance, distance + (u[1] - u[0]))
    _, across, _, _ = interval_moments(-2.0, 1.0)
    assert mass == pytest.approx(radial * across, rel=1e-12 + 1e-15 * (1 + distance) / width)


@pytest.mark.parametrize("where", [(0.0, 0.0), (0.5, 0.0), (1.0, 1.0), (0.3, 0.7), (0.0, -1e-300)])
def test_the_origin_may_lie_on_a_vertex_or_an_edge(where):
    """The unit square, moved so that 0 is one of its corners, on a side, inside, or next to it."""
    x = np.array([0.0, 1.0, 1.0, 0.0]) - where[0]
    y = np.array([0.0, 0.0, 1.0, 1.0]) - where[1]
    near_x, near_y, _ = nearest_point(x, y, 4)
    mass, a, b, *_ = edge_moments(x, y, 4, near_x**2 + near_y**2)
    sides = [interval_moments(-at, 1 - at) for at in where]
    assert mass == pytest.approx(sides[0][1] * sides[1][1], rel=1e-14)
    assert a == pytest.approx(sides[0][2] * sides[1][1], abs=1e-15)
    assert b == pytest.approx(sides[1][2] * sides[0][1], abs=1e-15)
