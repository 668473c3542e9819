"""Laplace's approximation: exact for a Gaussian, and not caught in a mode without mass."""

from __future__ import annotations

import torch

from pyrolvm import guides, models
from pyrolvm.core import Data
from pyrolvm.inference.laplace import laplace_approximation
from pyrolvm.inference.oracle import Oracles, OracleSettings


def test_it_is_the_posterior_of_a_linear_gaussian_model():
    torch.manual_seed(0)
    model = models.LinearGaussian(2, 4, noise_scale=0.7).double()
    x = torch.randn(70, 4)
    loc, scale_tril = laplace_approximation(model, x)
    truth = model.posterior(x.double())
    assert torch.allclose(loc, truth.mean, atol=1e-9)
    assert torch.allclose(scale_tril @ scale_tril.mT, truth.covariance_matrix, atol=1e-9)


def two_modes():
    """Observe |z + 0.5| = 2 in noise: the mode 1.5 holds 88 % of the mass, -2.5 the rest."""
    model = models.CPAGenerator(1, 1, (1,), 0.2, activation="abs").double()
    with torch.no_grad():
        for parameter, value in zip(model.decoder.parameters(), (1.0, 0.5, 1.0, 0.0), strict=True):
            parameter.fill_(value)
    return model, torch.full((20, 1), 2.0, dtype=torch.float64)


def test_it_finds_the_mode_that_holds_the_mass():
    model, x = two_modes()
    loc, _ = laplace_approximation(model, x)
    assert ((loc > 1.3) & (loc < 1.6)).all()


def test_an_oracle_leaves_the_mode_in_which_its_encoder_was_caught():
    model, x = two_modes()
    caught = guides.Amortized(model, "full", hidden=()).double()
    weight, bias = caught.encoder.parameters()
    with torch.no_grad():
        weight.zero_()
        bias.copy_(caught.family.from_gaussian(torch.tensor([-2.5]), torch.tensor([[0.2]])))
    settings = OracleSettings(300, 500, 0, None, progress=False)
    oracles = Oracles({"caught": (model, caught)}, Data.of(x), settings)
    elbo = oracles.elbo("caught")
    assert elbo is not None
    gap = (guides.ExactCPA(model).log_evidence(x) - elbo).mean()
    assert gap < 0.25  # log(1 / 0.88) = 0.13 is left; in the other mode it is log(1 / 0.12) = 2.1
