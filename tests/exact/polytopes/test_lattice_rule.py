"""Lattice points and truncated quantiles, against their definitions and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_ndtr
from scipy.stats import kstest, truncnorm

from pyrolvm.exact.polytopes.lattice_quantile import tail_quantile, truncated_quantile
from pyrolvm.exact.polytopes.lattice_rule import (
    GENERATORS,
    SHIFTS,
    draw_shifts,
    lattice_point,
    radical_inverse,
)


def points(size: int, dim: int, seed: int = 0) -> np.ndarray:
    out = np.empty((size, dim))
    shift = draw_shifts(seed, 0, dim)[0]
    for i in range(size):
        lattice_point(i, shift, out[i])
    return out


@pytest.mark.parametrize("dim", [2, 3, 4])
@pytest.mark.parametrize("power", [3, 6, 10])
def test_first_points_are_a_korobov_lattice(dim: int, power: int) -> None:
    size = 2**power
    first = np.array([int(radical_inverse(i) * size) for i in range(size)])
    np.testing.assert_array_equal(np.sort(first), np.arange(size))
    vector = np.array([pow(int(GENERATORS[dim]), k, size) for k in range(dim)])
    lattice = (first[:, None] * vector % size / size + draw_shifts(0, 0, dim)[0]) % 1.0
    np.testing.assert_allclose(points(size, dim), 1 - np.abs(2 * lattice - 1), atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_error_falls_faster_than_one_over_the_number_of_points(dim: int) -> None:
    def error(size: int) -> float:
        means = [np.exp(points(size, dim, seed)).prod(1).mean() for seed in range(8)]
        return float(np.sqrt(np.mean((np.array(means) - (math.e - 1) ** dim) ** 2)))

    assert error(1024) < error(16) / 256
    assert error(1024) < 2e-4


def test_shifts_are_uniform_and_differ_between_streams() -> None:
    shifts = np.concatenate([draw_shifts(5, stream, 3) for stream in range(100)])
    assert shifts.shape == (100 * SHIFTS, 3)
    assert kstest(shifts.ravel(), "uniform").pvalue > 1e-3
    assert len(np.unique(shifts)) == shifts.size


@pytest.mark.parametrize("log_tail", [np.log(0.5), -1.0, -5.0, -40.0, -900.0, -1e6])
def test_tail_quantile_inverts_the_log_tail(log_tail: float) -> None:
    x = tail_quantile(log_tail)
    assert log_ndtr(-x) == pytest.approx(log_tail, rel=1e-13, abs=1e-13)


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1.0, 2.0), (-9.0, 30.0), (-40.0, -0.1), (0.0, 1.0), (3.0, 3.5), (7.0, 60.0), (-8.0, -7.0)],
)
def test_truncated_quantile_agrees_with_scipy(low: float, high: float) -> None:
    share = np.array([1e-6, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6])
    mine = [truncated_quantile(low, high, u) for u in share]
    np.testing.assert_allclose(mine, truncnorm.ppf(share, low, high), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("low", "width"), [(40.0, 1e-5), (2.0, 1e-6), (0.0, 1e-9), (1e4, 1e-3)])
def test_narrow_intervals_keep_their_relative_accuracy(low: float, width: float) -> None:
    for u in (0.1, 0.5, 0.8):
        x = truncated_quantile(low, low + width, u)
        # the density is exponential to within width^2 / 2 across the interval
        rate = low
        part = -np.log1p(u * np.expm1(-rate * width)) / rate if rate > 0 else u * width
        assert x - low == pytest.approx(part, rel=2e-5)
        assert truncated_quantile(-low - width, -low, 1 - u) == pytest.approx(-x, rel=1e-14)
