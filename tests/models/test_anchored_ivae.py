"""AnchoredIVAE: the contract, what is fixed, and the mirror image that the anchors rule out."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch.testing import assert_close

from pyrolvm import guides
from pyrolvm.core import ConditionalPrior, DataError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.models import AnchoredIVAE, EnvironmentPrior
from pyrolvm.testing import ModelContract

U = torch.tensor([0, 2, 1, 1, 2, 0])
LOC = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
SCALE = torch.tensor([[1.0, 0.5], [0.6, 1.2], [0.8, 0.9]])


class TestAnchoredIVAE(ModelContract):
    def make(self):
        return AnchoredIVAE(EnvironmentPrior(LOC, SCALE), obs_dim=3, hidden=(5,))

    def make_data(self, model):
        with torch.no_grad():
            return {"x": model(u=U), "u": U}

    def sample(self, model, size):
        return model(u=torch.arange(size) % 3)


class TestPartlyAnchoredIVAE(TestAnchoredIVAE):
    def make(self):
        prior = EnvironmentPrior(LOC, SCALE)
        return AnchoredIVAE(prior, obs_dim=3, hidden=(5,), learned=[1], learn_noise=True)


def trained(model, steps=5):
    guide = guides.ConditionalProduct(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    data = {"x": torch.randn(6, 3), "u": U}
    for _ in range(steps):
        svi.step(**data)


def test_training_leaves_the_anchors_where_they_are():
    model = AnchoredIVAE(EnvironmentPrior(LOC, SCALE), obs_dim=3, learned=[1])
    trained(model)
    prior = model.environment_prior
    assert torch.equal(prior.loc[[0, 2]], LOC[[0, 2]])
    assert torch.equal(prior.scale[[0, 2]], SCALE[[0, 2]])
    assert not torch.isclose(prior.loc[1], LOC[1]).any()


def test_the_prior_of_two_models_is_not_shared():
    prior = EnvironmentPrior(LOC, SCALE)
    model = AnchoredIVAE(prior, obs_dim=3).double()
    assert prior.loc.dtype == torch.float32
    assert model.conditional_prior(U).mean.dtype == torch.float64


def test_it_offers_its_conditional_prior():
    model = AnchoredIVAE(EnvironmentPrior(LOC, SCALE), obs_dim=3)
    assert offers(model, ConditionalPrior)
    assert_close(model.conditional_prior(torch.arange(3)).mean, LOC)


def log_weight(model, guide, x, z):
    joint = model.conditional_prior(U).log_prob(z) + model.likelihood(z).log_prob(x)
    return joint - guide.distribution(x, U).log_prob(z)


@pytest.mark.parametrize("is_anchored", [False, True])
def test_only_means_rule_out_the_mirror_image(is_anchored):
    """Turn the sign of z_1 in decoder and encoder: the ELBO falls unless all means are 0."""
    prior = EnvironmentPrior(LOC if is_anchored else torch.zeros_like(LOC), SCALE)
    model = AnchoredIVAE(prior, 3).double()
    x = model(u=U).detach()
    guide = guides.ConditionalProduct(model).double()
    torch.nn.init.normal_(guide.encoder[-1].weight)
    z = guide.distribution(x, U).sample((1000,))
    before = log_weight(model, guide, x, z)
    with torch.no_grad():
        model.decoder[0].weight[:, 0].neg_()
        guide.encoder[-1].weight[0].neg_()
        guide.encoder[-1].bias[0].neg_()
    mirror = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    if is_anchored:
        drawn = guide.distribution(x, U).sample((1000,))
        after = log_weight(model, guide, x, drawn)
        error = (before.mean(1).var() + after.mean(1).var()).sqrt() / 1000**0.5
        assert (after.mean() - before.mean()).abs() > 5 * error
        assert (log_weight(model, guide, x, mirror * z) - before).abs().mean() > 0.1
    else:
        assert_close(log_weight(model, guide, x, mirror * z), before, rtol=0, atol=1e-9)


def test_bad_input_is_refused():
    prior = EnvironmentPrior(LOC, SCALE)
    with pytest.raises(SettingError, match="labels from 0 to 2"):
        AnchoredIVAE(prior, obs_dim=3, learned=[3])
    with pytest.raises(DataError, match=r"AnchoredIVAE knows the environments 0 to 2.*label 7"):
        AnchoredIVAE(prior, obs_dim=3)(u=torch.tensor([7]))
