"""Bootstrap intervals: equal to those of drawn-out samples, and they cover."""

from __future__ import annotations

import functools

import pytest
import torch

from pyrolvm.core.errors import DataError, SettingError
from pyrolvm.identifiability import LADDER, mcc, nonlinear_r2, raw_r2, with_interval


@pytest.mark.parametrize("name", [n for n in LADDER if n != "nonlinear_r2"])
def test_moments_give_the_intervals_of_drawn_out_samples(name):
    z = torch.randn(80, 2, dtype=torch.float64)
    z_hat = (z + 0.5 * torch.randn_like(z)).round(decimals=1)
    fast = with_interval(LADDER[name], z, z_hat, num_resamples=40)
    unknown = functools.partial(LADDER[name])
    slow = with_interval(unknown, z, z_hat, num_resamples=40)
    for end in ("value", "low", "high"):
        assert abs(getattr(fast, end) - getattr(slow, end)) < 1e-10
    assert fast.low < fast.value < fast.high


@pytest.mark.parametrize(("metric", "population"), [(mcc, 0.8), (raw_r2, 0.6)])
def test_intervals_cover_the_population(metric, population):
    """Standard normal codes with correlation ρ: MCC is ρ, and raw R² is 2ρ − 1."""
    covered, repeats = 0, 160
    for repeat in range(repeats):
        z = torch.randn(200, 1, dtype=torch.float64)
        z_hat = 0.8 * z + 0.6 * torch.randn_like(z)
        found = with_interval(metric, z, z_hat, num_resamples=100, level=0.9, seed=repeat)
        covered += found.low <= population <= found.high
    error = (0.9 * 0.1 / repeats) ** 0.5
    assert abs(covered / repeats - 0.9) < 4 * error


def test_a_seed_fixes_the_interval_and_a_level_widens_it():
    z = torch.randn(100, 2)
    z_hat = z + torch.randn(100, 2)
    one, same = (with_interval(raw_r2, z, z_hat, seed=3) for _ in range(2))
    assert one == same
    narrow = with_interval(raw_r2, z, z_hat, seed=3, level=0.5)
    assert one.low < narrow.low < narrow.high < one.high


def test_the_nonlinear_interval_holds_its_held_out_value():
    z = torch.randn(200, 2)
    found = with_interval(nonlinear_r2, z, z.sinh() + 0.3 * torch.randn(200, 2))
    assert found.low < found.value < found.high < 1
    assert found.value == pytest.approx(
        nonlinear_r2(z, z.sinh() + 0.3 * torch.randn(200, 2)), abs=0.1
    )


def test_it_prints_value_and_ends():
    z = torch.randn(50, 1)
    assert str(with_interval(raw_r2, z, z)) == "1.000 [1.000, 1.000]"


def test_settings_and_poor_samples_are_refused():
    z = torch.randn(50, 1)
    with pytest.raises(SettingError, match="num_resamples"):
        with_interval(raw_r2, z, z, num_resamples=3)
    with pytest.raises(SettingError, match="function of two sets of codes, but got 'mcc'"):
        with_interval("mcc", z, z)
    with pytest.raises(SettingError, match="level"):
        with_interval(raw_r2, z, z, level=1.0)
    rare = torch.zeros(6, 1)
    rare[0] = 1.0
    with pytest.raises(DataError, match="bootstrap sample"):
        with_interval(raw_r2, rare, rare)
