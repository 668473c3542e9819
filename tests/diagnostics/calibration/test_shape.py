"""The Gaussian pair behind ranks: by simulation, and with the error that is stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from pyrolvm.diagnostics.calibration import gaussian_pair, rank_shape

PAIRS = [(1.0, 0.0), (0.8, 0.0), (1.25, 0.0), (1.0, 0.3), (0.6, -0.7), (2.0, 1.0)]


def shares(ratio, shift, size, seed=0):
    """Share of a Gaussian guide below the truth, for many truths."""
    return ndtr((np.random.default_rng(seed).standard_normal(size) - shift) / ratio)


@pytest.mark.parametrize(("ratio", "shift"), PAIRS)
def test_width_and_shift_come_back_from_two_moments(ratio, shift):
    u = shares(ratio, shift, 1_000_000)
    assert gaussian_pair(u.mean(), (u**2).mean()) == pytest.approx((ratio, shift), abs=0.02)


@pytest.mark.parametrize(("ratio", "shift"), PAIRS)
def test_the_stated_errors_are_those_over_repetitions(ratio, shift):
    found = [
        rank_shape(np.floor(1000 * shares(ratio, shift, 1000, seed)).astype(int), 1000)
        for seed in range(100)
    ]
    for value, error, truth in (
        ("sd_ratio", "sd_ratio_error", ratio),
        ("shift", "shift_error", shift),
    ):
        values = np.array([getattr(each, value) for each in found])
        errors = np.array([getattr(each, error) for each in found])
        assert abs(values.mean() - truth) < 5 * values.std() / 10
        assert errors.mean() == pytest.approx(values.std(), rel=0.35)


def test_scores_of_uniform_ranks_are_standard():
    rng = np.random.default_rng(0)
    found = [rank_shape(rng.integers(0, 50, 200), 50) for _ in range(500)]
    for name in ("mean_score", "spread_score"):
        scores = np.array([getattr(each, name) for each in found])
        assert abs(scores.mean()) < 5 / math.sqrt(500)
        assert scores.std() == pytest.approx(1, abs=0.15)


def test_ranks_at_the_limits_have_limits_and_no_error():
    middle, ends = np.full(50, 10), np.repeat([0, 20], 25)
    assert math.isinf(rank_shape(middle, 21).sd_ratio)
    assert math.isnan(rank_shape(middle, 21).sd_ratio_error)
    assert rank_shape(ends, 21).sd_ratio < 0.2
