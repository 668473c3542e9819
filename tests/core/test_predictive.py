"""Draws of what a model predicts."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions import Normal

from pyrolvm import guides, models
from pyrolvm.core import predictive, prior_predictive


def test_posterior_draws_have_particles_and_data_first():
    model = models.LinearGaussian(2, 4)
    x = model(size=5).detach()
    draws = predictive(model, guides.Exact(model), x, 7)
    assert draws.latents["z"].shape == (7, 5, 2)
    assert draws.observations["x"].shape == draws.means["x"].shape == (7, 5, 4)


def test_means_are_those_of_the_drawn_latents():
    model = models.LinearGaussian(2, 4)
    x = model(size=5).detach()
    draws = predictive(model, guides.Exact(model), x, 3)
    mean = model.double().decoder(draws.latents["z"])
    torch.testing.assert_close(draws.means["x"], mean.detach())


def test_new_observations_are_not_the_data():
    model = models.LinearGaussian(2, 4)
    x = model(size=5).detach()
    assert not (predictive(model, guides.Exact(model), x, 3).observations["x"] == x).any()


def test_prior_draws_have_one_leading_dimension():
    draws = prior_predictive(models.VAE(2, 4, likelihood="bernoulli"), 9)
    assert draws.latents["z"].shape == (9, 2)
    assert draws.observations["x"].shape == draws.means["x"].shape == (9, 4)


def test_a_pair_that_fixes_batch_shapes_predicts_rightly(x):
    def model(x):
        with pyro.plate("data", 5):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Normal(z.reshape(-1)[:5], 0.5), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", 5):
            pyro.sample("z", Normal(x[:, 0], 1.0))

    with pytest.warns(UserWarning, match="one after another"):
        draws = predictive(model, guide, x, 4)
    torch.testing.assert_close(draws.means["x"], draws.latents["z"])


def test_factors_are_not_observations(x):
    def model(x):
        with pyro.plate("data", 5):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.factor("penalty", -(z**2))
            pyro.sample("x", Normal(z, 0.5), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", 5):
            pyro.sample("z", Normal(x[:, 0], 1.0))

    assert set(predictive(model, guide, x, 4).observations) == {"x"}
