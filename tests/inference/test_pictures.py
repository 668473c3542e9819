"""Densities on grids: they integrate to one, axes in order, no random numbers used up."""

from __future__ import annotations

import types

import pytest
import torch
from torch.testing import assert_close

from pyrolvm import guides, models
from pyrolvm.core import Data, log_densities
from pyrolvm.inference.pictures import (
    can_draw,
    choose_data,
    draw_pictures,
    grid_values,
    on_grid,
    picture_grid,
)


def drawn(latent_dim):
    torch.manual_seed(2)
    model = models.CPAGenerator(latent_dim, 5, hidden=(8,), noise_scale=0.4)
    x = model(size=6).detach()
    pairs = {"exact": (model, guides.ExactCPA(model)), "q": (model, guides.Amortized(model))}
    measured = {
        name: types.SimpleNamespace(
            posterior=log_densities(model, guide, x, num_particles=400, keep_values=True).values
        )
        for name, (_, guide) in pairs.items()
    }
    chosen = torch.tensor([0, 3])
    return draw_pictures(pairs, Data.of(x), chosen, measured, seed=1)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_densities_integrate_to_one(latent_dim):
    shown, per_guide = drawn(latent_dim)
    cell = torch.ones(2).double()
    for axis in range(latent_dim):
        values = shown[f"z_{axis + 1}"][1]
        cell = cell * (values[:, 1] - values[:, 0])
    for density in (shown["log_density"][1], per_guide["q"]["log_density"]):
        mass = density.flatten(1).exp().sum(1) * cell
        assert_close(mass, torch.ones(2).double(), rtol=0, atol=0.03)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_the_exact_guide_draws_the_posterior(latent_dim):
    shown, per_guide = drawn(latent_dim)
    assert_close(per_guide["exact"]["log_density"], shown["log_density"][1], rtol=0, atol=1e-7)


def test_pictures_do_not_use_up_random_numbers():
    torch.manual_seed(2)
    first = drawn(1)
    state = torch.get_rng_state()
    again = drawn(1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first[1]["q"]["reconstruction"], again[1]["q"]["reconstruction"])


def test_the_second_coordinate_comes_first():
    axes = picture_grid(torch.randn(500, 3, 2).double(), points=7)
    values = grid_values(axes)
    assert values.shape == (49, 3, 2)
    assert_close(on_grid(values[..., 0], 2)[1, 4], axes[0][1])
    assert_close(on_grid(values[..., 1], 2)[1, :, 4], axes[1][1])


def test_chosen_data_span_the_range_with_the_largest():
    gap = torch.tensor([3.0, torch.nan, 1.0, torch.inf, 2.0])
    chosen = choose_data(gap, 3)
    assert chosen[-1] == 3
    assert len(choose_data(gap[:1], 4)) == 1


def test_only_own_pairs_of_few_dimensions_are_drawn():
    model, wide = models.LinearGaussian(2, 4), models.LinearGaussian(3, 4)
    assert can_draw({"a": (model, guides.Exact(model))})
    assert not can_draw({"a": (wide, guides.Exact(wide))})
    assert not can_draw({"a": (model, lambda x: None)})
