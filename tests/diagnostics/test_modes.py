"""Missing modes: known shares, and shapes with one mode that must not fall apart."""

from __future__ import annotations

import math

import pytest
import torch

from pyrolvm.diagnostics.draw_pair import draw_pair
from pyrolvm.diagnostics.modes import find_modes

SIZE = 1000


def normal(dim, size=SIZE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 1, dim, generator=generator, dtype=torch.float64)


def mixed(dim, share, distance=8.0):
    """A share of the draws in a second mode along the first coordinate."""
    draws = normal(dim, seed=1)
    draws[: int(share * SIZE), :, 0] += distance
    return draws[torch.randperm(SIZE, generator=torch.Generator().manual_seed(2))]


@pytest.mark.parametrize("dim", [1, 2, 10, 14])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_mass_of_a_mode_that_is_not_visited(dim, share):
    found = find_modes(draw_pair(normal(dim), mixed(dim, share)))
    assert found.number.tolist() == [2]
    assert abs(found.missed - share) < 5 * found.standard_error
    assert found.standard_error.item() == pytest.approx(
        math.sqrt(share * (1 - share) / SIZE), rel=0.1
    )


def test_a_mode_that_is_visited_too_seldom_counts_in_part():
    found = find_modes(draw_pair(mixed(2, 0.2), mixed(2, 0.5)))
    assert abs(found.missed - 0.3) < 5 * found.standard_error
    torch.testing.assert_close(found.guide_share.sum(-1), torch.ones(1).double())


def test_a_guide_that_visits_all_modes_misses_none():
    found = find_modes(draw_pair(mixed(2, 0.4), mixed(2, 0.4)))
    assert found.number.tolist() == [2]
    assert (found.missed <= 5 * found.standard_error).all()


def test_three_modes_are_counted():
    posterior = normal(2)
    posterior[:300, :, 0] += 10.0
    posterior[300:500, :, 1] += 10.0
    found = find_modes(draw_pair(normal(2, seed=3), posterior))
    assert found.number.tolist() == [3]
    torch.testing.assert_close(found.posterior_share[0], torch.tensor([0.5, 0.3, 0.2]).double())
    assert found.missed.item() == pytest.approx(0.5)


def one_mode(shape):
    draws = normal(2)
    if shape == "skewed":
        return draws.exp()
    if shape == "bent":
        draws[..., 1] = 0.3 * draws[..., 1] + 1.5 * draws[..., 0] ** 2
    if shape == "heavy tails":
        draws = draws * (3 / normal(3, seed=4).square().sum(-1, keepdim=True)).sqrt()
    if shape == "funnel":
        draws[..., 1] *= draws[..., 0].exp()
    return draws


@pytest.mark.parametrize("shape", ["normal", "skewed", "bent", "heavy tails", "funnel"])
def test_a_posterior_of_one_mode_has_none_to_miss(shape):
    posterior = one_mode(shape)
    guide = posterior.mean(0) + 0.5 * posterior.std(0) * normal(2, seed=5)
    found = find_modes(draw_pair(guide, posterior))
    assert found.posterior_share[0, 0] > 0.95
    assert found.missed.item() < 0.05
