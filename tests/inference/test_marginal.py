"""The KL of a chain's end: against the closed form of a linear model."""

from __future__ import annotations

import torch
from torch.distributions import kl_divergence

from pyrolvm import guides, models
from pyrolvm.inference.marginal import ChainGuide, marginal_gap


def test_without_steps_it_is_the_kl_of_the_start():
    torch.manual_seed(0)
    model = models.LinearGaussian(2, 3, noise_scale=0.5).double()
    x = model(size=20).detach()
    guide = guides.Langevin(model, num_descent=3, num_langevin=0, start_scale=0.4).double()
    assert isinstance(guide, ChainGuide)
    found = marginal_gap(model, guide, x, model.log_evidence(x).detach(), num_draws=4000)
    start = torch.distributions.MultivariateNormal(
        guide.centre(x).detach(), 0.16 * torch.eye(2).double()
    )
    posterior = model.posterior(x)
    closed = kl_divergence(
        start, torch.distributions.MultivariateNormal(posterior.mean, posterior.covariance_matrix)
    ).detach()
    assert torch.allclose(found, closed, rtol=0.15, atol=0.05)


def test_it_is_below_the_gap_of_whole_chains():
    torch.manual_seed(1)
    model = models.ResidualGenerator(2, hidden=2, contraction=0.9, noise_scale=0.2).double()
    x = model(size=30).detach()
    guide = guides.Langevin(model, num_descent=10, num_langevin=5).double()
    from pyrolvm.core import log_densities
    from pyrolvm.inference import exact_evidence

    evidence = exact_evidence(model, x).value
    whole = evidence - log_densities(model, guide, x, num_particles=1000).log_weights.mean(0)
    end = marginal_gap(model, guide, x, evidence)
    assert end.mean() > -0.02
    assert end.mean() < whole.mean() + 0.02
