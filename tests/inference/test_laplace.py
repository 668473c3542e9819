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
    found = laplace_approximation(model, x)
    loc, scale_tril = found.loc[:, 0], found.scale_tril[:, 0]
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
    loc = laplace_approximation(model, x).loc
    assert ((loc > 1.3) & (loc < 1.6)).all()


def test_it_finds_both_modes_with_their_shares_of_the_mass():
    model, x = two_modes()
    found = laplace_approximation(model, x, 2)
    order = found.loc[..., 0].argsort(1)
    loc = found.loc[..., 0].gather(1, order)
    exact = guides.ExactCPA(model).posterior(x[:1])
    right = (exact.sample((20_000,)) > 0).double().mean()
    assert torch.allclose(loc, torch.tensor([[-2.4, 1.46]]).double().expand(20, 2), atol=0.1)
    share = found.log_weight.exp().gather(1, order)[:, 1]
    assert torch.allclose(share, right.expand(20), atol=0.02)


def test_components_beyond_the_modes_share_them():
    model, x = two_modes()
    found = laplace_approximation(model, x, 5)
    assert torch.allclose(found.log_weight.exp().sum(1), torch.ones(20).double())
    right = (found.log_weight.exp() * (found.loc[..., 0] > 0)).sum(1)
    assert torch.allclose(right, torch.tensor(0.88).double().expand(20), atol=0.03)
    assert len(found.loc[0].unique()) == 5


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
