"""The evidence given the environment: against the closed form of a linear model."""

from __future__ import annotations

import pytest
import torch
from pyro.distributions import Laplace
from torch.distributions import MultivariateNormal
from torch.testing import assert_close

from pyrolvm import KLTrace, fit, guides, models
from pyrolvm.inference.environment_quadrature import quadrature_in_environments
from pyrolvm.inference.evidence import exact_evidence

LOC = torch.tensor([[0.0, 1.0], [4.0, 0.0], [0.0, -3.0]])
SCALE = torch.tensor([[1.0, 0.5], [0.3, 2.0], [1.5, 1.0]])
U = torch.tensor([2, 0, 1, 1, 2])


@pytest.mark.parametrize("dim", [1, 2])
def test_it_is_the_closed_form_of_a_linear_model(dim):
    prior = models.EnvironmentPrior(LOC[:, :dim], SCALE[:, :dim])
    model = models.AnchoredIVAE(prior, 3, hidden=(), noise_scale=0.5)
    x = 2 * torch.randn(5, 3)
    found = exact_evidence(model, {"x": x, "u": U})
    weight, bias = (p.detach().double() for p in model.decoder[0].parameters())
    loc, variance = (t[U, :dim].double() for t in (LOC, SCALE.square()))
    covariance = torch.einsum("id,nd,jd->nij", weight, variance, weight)
    noise = 0.25 * torch.eye(3, dtype=torch.float64)
    wanted = MultivariateNormal(loc @ weight.T + bias, covariance + noise).log_prob(x.double())
    assert found.method == "quadrature"
    assert not found.is_bound
    assert_close(
        found.value, wanted, rtol=1e-5, atol=1e-5
    )  # 0.5 is kept as exp(log 0.5) in float32
    assert (found.standard_error < 1e-5).all()


def test_other_models_and_data_have_none():
    prior = models.EnvironmentPrior(LOC, SCALE)
    model = models.AnchoredIVAE(prior, 3)
    x = torch.randn(5, 3)
    assert exact_evidence(models.VAE(2, 3), {"x": x, "u": U}) is None
    assert exact_evidence(model, {"x": x, "v": U}) is None
    many = models.IVAE(3, 3, 3)
    assert exact_evidence(many, {"x": x, "u": U}) is None


def test_a_prior_that_is_no_gaussian_has_none():
    class Other(models.AnchoredIVAE):
        def conditional_prior(self, u):
            return Laplace(LOC[u].double(), SCALE[u].double()).to_event(1)

    model = Other(models.EnvironmentPrior(LOC, SCALE), 3).double()
    assert quadrature_in_environments(model, torch.randn(5, 3).double(), U) is None


def test_training_can_be_watched():
    prior = models.EnvironmentPrior(LOC[:, :1], SCALE[:, :1])
    model = models.AnchoredIVAE(prior, 3, hidden=(4,), noise_scale=0.5)
    data = {"x": model(u=U).detach(), "u": U}
    guide = guides.ConditionalProduct(model, hidden=(4,))
    trace = KLTrace(model, guide, data, num_particles=50)
    assert trace.kl.shape == (0, 5)
    fit(model, guide, data, steps=2, watch=trace, watch_every=1, progress=False)
    assert trace.kl.shape == (3, 5)
    assert (trace.kl > -5 * trace.standard_error).all()
