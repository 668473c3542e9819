"""Mass and moments of polytopes, against closed forms, exact planar code and Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import log_ndtr
from scipy.stats import truncnorm

from pyrolvm.exact.edge_moments import edge_moments
from pyrolvm.exact.polytopes.lattice_integral import integrate

Make = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]


def log_interval(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Log mass of intervals that do not lie left of 0."""
    upper, lower = log_ndtr(-low), log_ndtr(-high)
    return upper + np.log1p(-np.exp(lower - upper))


@pytest.mark.parametrize("dim", [3, 4, 5])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.5), (0.3, 30.0), (5.0, 6.0), (20.0, 60.0)])
def test_turned_box_is_a_product_of_intervals(
    turned_box: Make, dim: int, low: float, high: float
) -> None:
    lows, highs = low * np.linspace(0.8, 1.2, dim), high * np.linspace(1.4, 1.1, dim)
    found = integrate(*turned_box(lows, highs, seed=dim), points=8)
    truth = log_interval(lows, highs).sum()
    assert found.standard_error < 1e-9
    assert found.log_mass == pytest.approx(truth, rel=1e-12, abs=1e-11)


@pytest.mark.parametrize("dim", [4, 5])
def test_moments_of_a_turned_box(turned_box: Make, dim: int) -> None:
    lows, highs = np.linspace(0.5, 2.0, dim), np.linspace(2.5, 9.0, dim)
    normals, offsets, vertices = turned_box(lows, highs, seed=1)
    found = integrate(normals, offsets, vertices, points=512)
    axes = normals[:dim]
    mean, var = truncnorm.mean(lows, highs), truncnorm.var(lows, highs)
    np.testing.assert_allclose(axes @ found.mean, mean, atol=2e-4)
    np.testing.assert_allclose(axes @ found.covariance @ axes.T, np.diag(var), atol=2e-3)


@pytest.mark.parametrize("dim", [3, 4, 5, 6])
def test_orthant_of_equicorrelated_variables(polytope: Make, dim: int) -> None:
    factor = np.linalg.cholesky(0.5 + 0.5 * np.eye(dim))
    eye, far = np.eye(dim), 12.0
    shape = polytope(
        np.r_[-factor, eye, -eye],
        np.r_[np.zeros(dim), np.full(2 * dim, far)],
        np.linalg.solve(factor, np.ones(dim)),
    )
    found = integrate(*shape, points=1024)
    truth = -np.log(dim + 1.0)
    assert found.standard_error < 5e-4
    assert abs(found.log_mass - truth) < 5 * found.standard_error
    assert truth < found.bound < truth + 0.3


def test_planar_polytopes_agree_with_the_exact_polygon_code(random_polytope: Make) -> None:
    for seed in range(10):
        shape = random_polytope(2, 7, 1.0, 2.0, seed)
        found = integrate(*shape, points=1)
        centre = shape[2].mean(0)
        order = np.argsort(np.arctan2(*(shape[2] - centre).T[::-1]))
        x, y = np.ascontiguousarray(shape[2][order].T)
        mass, m_x, m_y, m_xx, m_xy, _ = edge_moments(x, y, len(x), 0.0)
        assert found.log_mass == pytest.approx(np.log(mass), abs=1e-9)
        np.testing.assert_allclose(found.mean, [m_x / mass, m_y / mass], rtol=1e-8)
        spread = [m_xx / mass - (m_x / mass) ** 2, m_xy / mass - m_x * m_y / mass**2]
        np.testing.assert_allclose(found.covariance[0], spread, atol=1e-8)


@pytest.mark.parametrize("dim", [3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mass_and_moments_against_monte_carlo(random_polytope: Make, dim: int, seed: int) -> None:
    normals, offsets, vertices = random_polytope(dim, 8, 2.0, 0.7, seed)
    found = integrate(normals, offsets, vertices, points=512)
    draws = np.random.default_rng(seed).standard_normal((400_000, dim))
    inside = draws[(draws @ normals.T <= offsets).all(1)]
    share = len(inside) / len(draws)
    error = np.sqrt((1 - share) / len(inside) + found.standard_error**2)
    assert len(inside) > 1000
    assert found.standard_error < 5e-3
    assert abs(found.log_mass - np.log(share)) < 5 * error
    z_mean = (found.mean - inside.mean(0)) / (inside.std(0) / np.sqrt(len(inside)))
    assert np.abs(z_mean).max() < 5.5
    rest = inside - inside.mean(0)
    products = rest[:, :, None] * rest[:, None, :]
    z_spread = (found.covariance - products.mean(0)) / (products.std(0) / np.sqrt(len(inside)))
    assert np.abs(z_spread).max() < 5.5


def test_simplex_against_monte_carlo(polytope: Make) -> None:
    corners = np.r_[np.zeros((1, 4)), 2.0 * np.eye(4)] - 0.3
    normals, offsets = np.r_[-np.eye(4), np.ones((1, 4))], np.r_[np.full(4, 0.3), 2.0 - 1.2]
    found = integrate(*polytope(normals, offsets, corners.mean(0)), points=1024)
    draws = np.random.default_rng(0).standard_normal((1_000_000, 4))
    share = (draws @ normals.T <= offsets).all(1).mean()
    error = np.hypot(np.sqrt((1 - share) / share / 1e6), found.standard_error)
    assert found.standard_error < 1e-3
    assert abs(found.log_mass - np.log(share)) < 5 * error


@pytest.mark.parametrize("dim", [4, 5])
def test_far_tail_behind_one_facet(polytope: Make, dim: int) -> None:
    random = np.random.default_rng(3)
    normal = random.standard_normal(dim)
    normal /= np.linalg.norm(normal)
    eye = np.eye(dim)
    shape = polytope(np.r_[-normal[None], eye, -eye], np.r_[-40.0, np.full(2 * dim, 60.0)],
                     45 * normal)  # fmt: skip
    found = integrate(*shape, points=64)
    assert found.log_mass == pytest.approx(float(log_ndtr(-40.0)), rel=1e-10)
    assert np.linalg.norm(found.mean - (normal @ found.mean) * normal) < 0.05
    assert normal @ found.mean == pytest.approx(truncnorm.mean(40, np.inf), abs=3e-4)


@pytest.mark.parametrize("dim", [4, 5])
@pytest.mark.parametrize("away", [0.5, 3.0, 20.0])
def test_errors_are_honest(random_polytope: Make, dim: int, away: float) -> None:
    shape = random_polytope(dim, 9, 1.0, away, 4)
    truth = integrate(*shape, points=2**12, seed=1000)
    found = [integrate(*shape, points=64, seed=seed) for seed in range(50)]
    scores = np.array([(f.log_mass - truth.log_mass) / f.standard_error for f in found])
    assert truth.standard_error < 0.2 * np.median([f.standard_error for f in found])
    # Student's t scaled to variance 1, or less where the error is enlarged for safety
    assert 0.02 < (scores**2).mean() < 2.0
    assert np.abs(scores).max() < 5


def test_cells_of_an_arrangement_add_up(polytope: Make) -> None:
    random = np.random.default_rng(0)
    dim, far = 4, 3.0
    planes, shifts = random.standard_normal((4, dim)), 0.5 * random.standard_normal(4)
    planes /= np.linalg.norm(planes, axis=1, keepdims=True)
    eye = np.eye(dim)
    samples = random.uniform(-far, far, (4000, dim))
    signs = np.sign(samples @ planes.T - shifts)
    total, variance, cells = 0.0, 0.0, np.unique(signs, axis=0)
    for sign in cells:
        normals = np.r_[-sign[:, None] * planes, eye, -eye]
        offsets = np.r_[-sign * shifts, np.full(2 * dim, far)]
        inner = samples[(signs == sign).all(1)]
        depth = (offsets - inner @ normals.T).min(1)
        found = integrate(*polytope(normals, offsets, inner[depth.argmax()]), points=128)
        total += np.exp(found.log_mass)
        variance += (np.exp(found.log_mass) * found.standard_error) ** 2
    truth = np.exp(dim * log_interval(np.array(-far), np.array(far)))
    assert len(cells) == 16
    assert variance**0.5 < 1e-3
    assert abs(total - truth) < 5 * variance**0.5


@pytest.mark.parametrize("dim", [4, 5])
def test_tilting_pays_in_far_corners_and_its_bound_holds(random_polytope: Make, dim: int) -> None:
    gains = []
    for seed in range(6):
        shape = random_polytope(dim, 9, 1.0, 30.0, seed)
        found = integrate(*shape, points=64)
        plain = integrate(*shape, points=64, tilted=False)
        assert found.log_mass < found.bound + 5 * found.standard_error
        assert found.log_mass > found.bound - 2.5
        gains.append(plain.standard_error / found.standard_error)
    assert np.median(gains) > 2
