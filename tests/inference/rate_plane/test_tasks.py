"""Optima, rivals and errors over seeds, against numbers worked out by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy.stats import spearmanr

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.inference.rate_plane import (
    mean_over_seeds,
    optimum,
    rank_correlation,
    seed_error,
    task_named,
)


@pytest.fixture
def frame():
    """Four points, two seeds; PSNR differs by 0.2 between the seeds of each point."""
    rows = []
    for (first, second), value in {
        (0.1, 0.1): 20.0, (0.1, 10.0): 19.9, (10.0, 0.1): 15.0, (10.0, 10.0): 14.0,
    }.items():  # fmt: skip
        for seed, shift in ((0, -0.1), (1, 0.1)):
            rows.append(
                {"weight_1": first, "weight_2": second, "seed": seed, "rate_1": 1 / first,
                 "rate_2": 2 / second, "psnr": value + shift, "psnr_se": 0.3,
                 "negative_elbo": value}
            )  # fmt: skip
    return pd.DataFrame(rows)


def test_error_over_seeds_is_pooled_over_the_grid(frame):
    variance = 2 * 0.1**2  # of (-0.1, 0.1), with one degree of freedom
    assert seed_error(frame, "psnr") == pytest.approx(math.sqrt(variance / 2))


def test_with_one_seed_the_error_is_the_one_over_data(frame):
    assert seed_error(frame[frame["seed"] == 0], "psnr") == pytest.approx(0.3)


def test_the_best_point_and_those_not_told_apart(frame):
    best = optimum(frame, task_named("reconstruction"))
    assert (best.weight_1, best.weight_2) == (0.1, 0.1)
    assert (best.value, best.rate_1, best.rate_2) == pytest.approx((20.0, 10.0, 20.0))
    assert best.rivals == ((0.1, 10.0),)


def test_the_smallest_is_best_where_less_is_better(frame):
    best = optimum(frame, task_named("likelihood"))
    assert (best.weight_1, best.weight_2) == (10.0, 10.0)
    assert best.rivals == ()


def test_means_have_one_row_a_point(frame):
    means = mean_over_seeds(frame)
    assert len(means) == 4
    assert "seed" not in means.columns


def test_rank_correlation_is_spearmans(frame):
    means = mean_over_seeds(frame)
    theirs = spearmanr(means["rate_2"], means["psnr"]).statistic
    assert rank_correlation(frame, "rate_2", "psnr") == pytest.approx(theirs)


def test_a_constant_has_no_rank_correlation(frame):
    assert math.isnan(rank_correlation(frame.assign(score=1.0), "score", "psnr"))


def test_unknown_task():
    with pytest.raises(UnknownNameError, match="generation"):
        task_named("generaton")
