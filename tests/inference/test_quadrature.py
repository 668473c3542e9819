"""Quadrature: against closed forms and the exact engine, and honest where it cannot do it."""

from __future__ import annotations

import pytest
import torch
from pyro.distributions import Gamma, MultivariateNormal, Normal
from scipy.integrate import quad
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import models
from pyrolvm.inference import exact_evidence
from pyrolvm.inference.quadrature import log_likelihoods, quadrature_evidence


@pytest.mark.parametrize(("latents", "noise"), [(1, 0.02), (1, 1.0), (2, 0.1), (2, 1.0)])
def test_it_is_the_evidence_of_a_linear_model(latents, noise):
    torch.manual_seed(0)
    model = models.LinearGaussian(latents, 4, noise_scale=noise, isotropic=False).double()
    x = model(size=20).detach()
    value, change = quadrature_evidence(model, x)
    assert_close(value, model.log_evidence(x).detach(), rtol=0, atol=1e-9)
    assert change.max() < 1e-6


def test_kinks_are_integrated_within_a_few_times_the_last_change():
    torch.manual_seed(1)
    tril = torch.tensor([[1.0, 0.0], [0.5, 0.7]])
    model = models.CPAGenerator(
        2, 3, (8,), 0.3, prior_loc=torch.tensor([0.5, -1.0]), prior_scale_tril=tril
    ).double()
    x = model(size=10).detach()
    value, change = quadrature_evidence(model, x)
    error = (value - lvm.log_evidence(model, x).value.detach()).abs()
    assert (error <= 5 * change + 1e-9).all()


def test_zeros_and_ones_agree_with_scipy():
    torch.manual_seed(2)
    model = models.VAE(1, 3, (5,), "bernoulli", "tanh").double()
    x = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    value, _ = quadrature_evidence(model, x)

    def joint(z: float) -> float:
        at = torch.tensor([z], dtype=torch.float64)
        return (model.prior().log_prob(at) + model.likelihood(at).log_prob(x[0])).exp().item()

    assert value.exp().item() == pytest.approx(quad(joint, -9, 9, epsabs=1e-12)[0], rel=1e-9)


def test_a_posterior_that_no_grid_resolves_is_left_to_a_bound():
    model = models.LinearGaussian(2, 4, noise_scale=1e-5, learn_noise=False).double()
    assert quadrature_evidence(model, model(size=2).detach()) is None


def test_a_smooth_model_has_its_evidence_by_quadrature():
    torch.manual_seed(3)
    model = models.VAE(2, 4, (6,), activation="tanh")
    found = exact_evidence(model, model(size=5).detach())
    assert found.method == "quadrature"
    assert not found.is_bound
    assert found.standard_error.max() < 1e-6


def test_three_latents_are_out_of_reach():
    model = models.VAE(3, 4, (6,), activation="tanh")
    assert exact_evidence(model, model(size=5).detach()) is None


@pytest.mark.parametrize("kind", ["common scale", "own scale", "full covariance", "gamma"])
def test_densities_of_all_pairs_are_those_of_each(kind):
    torch.manual_seed(4)
    loc, x = torch.randn(6, 3).double(), torch.rand(5, 3).double()
    likelihood = {
        "common scale": Normal(loc, torch.tensor([0.1, 1.0, 2.0]).double()).to_event(1),
        "own scale": Normal(loc, loc.exp()).to_event(1),
        "full covariance": MultivariateNormal(loc, torch.eye(3).double()),
        "gamma": Gamma(loc.exp(), loc.exp()).to_event(1),
    }[kind]
    each = torch.stack([likelihood.log_prob(row) for row in x], 1)
    assert_close(log_likelihoods(likelihood, x), each)
