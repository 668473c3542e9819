"""Interval masses and cut normal variables, out into the tails."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch.testing import assert_close

from pyrolvm.nn.zigzag import cut_normal, from_uniform, log_interval_mass, on_pieces, zigzag

INTERVALS = [(-1.0, 2.0), (-0.01, 0.01), (5.0, 6.0), (-80.0, -70.0), (100.0, 130.0), (-9.0, 40.0)]


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_the_mass_of_an_interval_is_that_of_many_digits(low, high):
    with mpmath.workdps(60):
        root = mpmath.sqrt(2)
        ends = [mpmath.erfc(-mpmath.mpf(end) / root) / 2 for end in (low, high)]
        if low > 0:
            ends = [mpmath.erfc(mpmath.mpf(end) / root) / 2 for end in (high, low)]
        truth = float(mpmath.log(ends[1] - ends[0]))
    found = log_interval_mass(*torch.tensor([low, high], dtype=torch.float64))
    assert found.item() == pytest.approx(truth, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (5.0, 6.0), (-6.0, -5.0), (-9.0, 8.0)])
def test_quantiles_of_a_cut_normal_split_its_mass(low, high):
    share = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    low, high = torch.full_like(share, low), torch.full_like(share, high)
    value = cut_normal(low, high, share)
    below = log_interval_mass(low, value) - log_interval_mass(low, high)
    above = log_interval_mass(value, high) - log_interval_mass(low, high)
    lower = low + high <= 0  # mirrored intervals count from the other end
    assert_close(torch.where(lower, below, above).exp(), share, rtol=1e-6, atol=1e-9)


def test_draws_beyond_reach_lie_at_the_nearer_end():
    low, high = torch.tensor([60.0, -90.0]).double(), torch.tensor([90.0, -60.0]).double()
    assert cut_normal(low, high, torch.tensor(0.5).double()).tolist() == [60.0, -60.0]


def test_each_piece_runs_through_all_heights():
    heights = torch.rand(20, 1).double()
    u = on_pieces(heights, torch.arange(4), 4)
    assert torch.equal((4 * u).floor(), torch.arange(4.0).double().expand(20, 4))
    assert_close(zigzag(u, 4), heights.expand(20, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_quantiles_are_finite_at_both_ends(dtype):
    z = from_uniform(torch.tensor([0.0, 1.0], dtype=dtype))
    assert z.isfinite().all()
    assert z[0] < -5 < 5 < z[1]
