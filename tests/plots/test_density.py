"""Highest-density regions, against the closed form of a Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

from pyrolvm.plots.density import GridDensity, grid_density

AXIS = np.linspace(-6, 6, 241)


def gaussian():
    first, second = np.meshgrid(AXIS, AXIS)
    return -0.5 * (first**2 + second**2) - np.log(2 * np.pi)


def density(log_density: np.ndarray, *axes: np.ndarray) -> GridDensity:
    found = grid_density(log_density, *axes)
    assert isinstance(found, GridDensity)
    return found


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_level_of_a_gaussian(share):
    level = density(gaussian(), AXIS, AXIS).levels([share])[0]
    assert level == pytest.approx(np.log(1 - share), abs=0.02)


def test_mass_of_a_gaussian_is_one():
    assert density(gaussian(), AXIS, AXIS).total == pytest.approx(1, abs=1e-6)


def test_a_region_that_the_grid_cannot_hold_has_no_level():
    half = slice(120, None)
    found = density(gaussian()[half], AXIS[half], AXIS)
    assert found.levels([0.3, 0.9])[1] is None


def test_nowhere_finite_is_no_density():
    assert grid_density(np.full((3, 3), np.nan), AXIS[:3], AXIS[:3]) is None
