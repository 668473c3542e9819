"""Scores of guides, and how many numbers they have."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

from pyrolvm import guides, models
from pyrolvm.inference import num_parameters, score


@pytest.fixture
def model():
    return models.LinearGaussian(2, 4)


@pytest.fixture
def x(model):
    return model(size=6).detach()


def test_an_exact_guide_has_constant_weights(model, x):
    found = score(model, guides.Exact(model), x, num_particles=50)
    with torch.no_grad():
        gap = model.double().log_evidence(x.double()) - found.elbo
    assert gap.abs().max() < 1e-10
    assert torch.isneginf(found.khat).all()
    assert found.ess.min() > 49.9
    assert found.ms_per_datum > 0


def test_the_same_seed_gives_the_same_score_and_moves_nothing(model, x):
    guide = guides.Amortized(model)
    state = torch.get_rng_state()
    first = score(model, guide, x, num_particles=20, seed=3)
    assert torch.equal(first.elbo, score(model, guide, x, num_particles=20, seed=3).elbo)
    assert not torch.equal(first.elbo, score(model, guide, x, num_particles=20, seed=4).elbo)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("kind", "number"), [(AutoNormal, 24), (AutoDiagonalNormal, 24)])
def test_an_autoguide_that_never_ran_is_counted_and_left_alone(kind, number, model, x):
    guide = kind(model)
    pyro.clear_param_store()
    assert num_parameters(guide, x) == number
    assert not list(guide.parameters())
    assert not list(pyro.get_param_store())
    assert guide(x)["z"].shape == (6, 2)


def test_parameters_of_a_function_are_counted_without_making_them():
    x = torch.randn(6, 4)

    def guide(x):
        pyro.param("weight", torch.zeros(4, 2))
        pyro.param("weight")
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(x[:, :2], pyro.param("scale", torch.ones(2))).to_event(1))

    assert num_parameters(guide, x) == 10
    assert not list(pyro.get_param_store())


def test_guides_without_parameters(model, x):
    assert num_parameters(guides.Exact(model), x) == 0
