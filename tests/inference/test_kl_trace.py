"""The KL of a guide while it trains: closed form, zero for the exact guide, nothing disturbed."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import kl_divergence

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import EvidenceError

QUIET = {"progress": False}


@pytest.fixture
def pair():
    torch.manual_seed(1)
    model = models.LinearGaussian(2, 4, noise_scale=0.5)
    return model, guides.Amortized(model, "diagonal", hidden=(8,)), model(size=40).detach()


def test_the_kl_of_gaussians_is_the_closed_form(pair):
    model, guide, x = pair
    trace = lvm.KLTrace(model, guide, x, num_particles=400)
    lvm.fit(model, guide, x, steps=20, watch=trace, watch_every=20, **QUIET)
    q = guide.distribution(x).base_dist
    p = model.posterior(x)
    full = torch.distributions.MultivariateNormal(q.loc, scale_tril=torch.diag_embed(q.scale))
    expected = kl_divergence(full, p).detach().double()
    error = (trace.kl[-1] - expected) / trace.standard_error[-1]
    assert trace.steps == [0, 20]
    assert error.abs().max() < 5


def test_the_exact_guide_has_none():
    torch.manual_seed(2)
    model = models.CPAGenerator(1, 3, hidden=(5,), noise_scale=0.3)
    x = model(size=20).detach()
    trace = lvm.KLTrace(model, guides.ExactCPA(model), x, num_particles=5)
    trace(0)
    assert trace.kl.abs().max() < 1e-8
    assert trace.frame["kl"].abs().max() < 1e-8


def test_watching_does_not_change_training(pair):
    model, guide, x = pair
    start = {name: value.clone() for name, value in guide.state_dict().items()}
    plain = lvm.fit(model, guide, x, steps=12, train="guide", seed=3, **QUIET).losses
    guide.load_state_dict(start)
    trace = lvm.KLTrace(model, guide, x[:7], num_particles=10)
    watched = lvm.fit(
        model, guide, x, steps=12, train="guide", seed=3, watch=trace, watch_every=5, **QUIET
    ).losses
    assert torch.equal(plain, watched)
    assert trace.steps == [0, 5, 10, 12]
    assert trace.kl.shape == (4, 7)
    assert list(trace.frame["step"]) == [0, 5, 10, 12]


def test_a_model_without_evidence_is_refused():
    model = models.VAE(3, 4, hidden=(5,), likelihood="bernoulli")
    guide = guides.Amortized(model, "diagonal", hidden=(8,))
    with pytest.raises(EvidenceError, match="KLTrace needs a model whose evidence is known"):
        lvm.KLTrace(model, guide, torch.zeros(4, 4))
