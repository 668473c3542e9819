"""Draws of what a model predicts."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions import Categorical, Normal

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


def test_discrete_sites_that_are_summed_out_are_drawn_given_the_data():
    """The class of each datum is certain from its observation, and its replicates show it."""
    x = torch.tensor([-50.0, 0.0, 50.0, 50.0])

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Normal(50.0 * (k - 1) + z, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(0.0, 0.1))

    drawn = predictive(model, guide, x, 200)
    assert drawn.latents.keys() == {"z"}
    again = drawn.observations["x"]
    assert again.shape == (200, 4)
    assert (again - x).abs().max() < 5.0


def test_what_is_computed_from_latents_is_not_drawn_anew():
    x = torch.randn(4)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(0.0, 1.0))
            loc = pyro.deterministic("loc", 3.0 * z)
            pyro.sample("x", Normal(loc, 1e-3), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(0.0, 1.0))

    draws = predictive(model, guide, x, 6)
    assert draws.observations["x"].shape == (6, 4)
    assert (draws.observations["x"] - 3 * draws.latents["z"]).abs().max() < 0.01
