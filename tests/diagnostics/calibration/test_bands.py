"""The test of uniform ranks is exact: by enumeration, by simulation, and against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from pyrolvm.diagnostics.calibration import UniformityTest, chi_squared_p_value
from pyrolvm.diagnostics.calibration.histogram import resampled_shares


def test_p_values_of_three_ranks_are_those_of_an_enumeration():
    test = UniformityTest.of(num_ranks=4, size=3)
    every = [np.array(ranks) for ranks in itertools.product(range(4), repeat=3)]
    extremes = []
    for ranks in every:
        counts = [(ranks < edge).sum() for edge in (1, 2, 3)]
        tails = [
            min(stats.binom.cdf(c, 3, edge / 4), stats.binom.sf(c - 1, 3, edge / 4))
            for c, edge in zip(counts, (1, 2, 3), strict=True)
        ]
        extremes.append(min(tails))
    expected = [np.mean(np.array(extremes) <= each * (1 + 1e-9)) for each in extremes]
    found = [test.p_value(ranks) for ranks in every]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len(set(np.round(found, 9))) > 3


@pytest.mark.parametrize(("num_ranks", "size"), [(200, 1000), (128, 150)])
def test_uniform_ranks_stay_inside_the_bands_as_often_as_these_say(num_ranks, size):
    test, rng, trials = UniformityTest.of(num_ranks, size), np.random.default_rng(1), 2000
    low, high = test.bands(0.9)
    claimed = test._stays_inside(test.level(0.9))
    assert 0.9 <= claimed < 0.92  # counts are whole numbers
    shares = [test.counts(rng.integers(0, num_ranks, size)) / size for _ in range(trials)]
    inside = np.mean([((low <= each) & (each <= high)).all() for each in shares])
    assert abs(inside - claimed) < 5 * np.sqrt(0.09 / trials)


def test_p_values_of_uniform_ranks_are_uniform():
    test, rng = UniformityTest.of(100, 300), np.random.default_rng(2)
    found = np.array([test.p_value(rng.integers(0, 100, 300)) for _ in range(400)])
    assert stats.kstest(found, "uniform").pvalue > 1e-4


def test_leaving_the_bands_and_a_small_p_value_are_the_same():
    test, rng = UniformityTest.of(100, 200), np.random.default_rng(3)
    low, high = test.bands(0.95)
    limit, left = 1 - test._stays_inside(test.level(0.95)), []
    for bend in np.linspace(0.8, 1.25, 60):
        ranks = np.floor(100 * rng.random(200) ** bend).astype(int)
        shares = test.counts(ranks) / 200
        left.append(bool(((shares < low) | (shares > high)).any()))
        assert left[-1] == (test.p_value(ranks) <= limit)
    assert 0 < sum(left) < 60


def test_chi_squared_agrees_with_scipy_on_its_bins():
    ranks = np.random.default_rng(0).integers(0, 100, 500)
    counts = np.bincount(ranks // 5, minlength=20)
    assert chi_squared_p_value(ranks, 100) == pytest.approx(stats.chisquare(counts).pvalue)


def test_resampled_shares_have_the_width_of_the_binomial():
    ranks, edges = np.random.default_rng(0).integers(0, 100, 2000), np.array([10, 50, 90])
    low, high = resampled_shares(ranks, edges, num_resamples=4000)
    expected = 2 * 1.96 * np.sqrt(edges / 100 * (1 - edges / 100) / 2000)
    np.testing.assert_allclose(high - low, expected, rtol=0.1)


def test_ranks_that_are_all_at_an_end_have_a_p_value_near_zero():
    test = UniformityTest.of(200, 1000)
    for ranks in (np.zeros(1000, int), np.full(1000, 199), np.repeat([0, 40], [900, 100])):
        assert 0.0 <= test.p_value(ranks) < 1e-12
