"""VAE: both likelihoods, the check of binary data, and when it is piecewise affine."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pyrolvm import guides
from pyrolvm.core import DataError, PiecewiseAffine, UnknownNameError, log_densities, serves
from pyrolvm.core.pairing import offers
from pyrolvm.models import VAE
from pyrolvm.testing import ModelContract


class TestGaussianVAE(ModelContract):
    def make(self):
        return VAE(latent_dim=2, obs_dim=5, hidden=(4,))

    def test_the_likelihood_is_by_hand(self):
        model = self.make()
        x = model(size=4).detach()
        found = log_densities(model, guides.Amortized(model), x, num_particles=3, keep_values=True)
        model = model.double()
        noise = torch.distributions.Normal(model.decoder(found.values["z"]), model.noise())
        assert_close(found.likelihood["x"], noise.log_prob(x.double()).sum(-1).detach())


class TestBernoulliVAE(ModelContract):
    def make(self):
        return VAE(latent_dim=2, obs_dim=5, hidden=(4,), likelihood="bernoulli")

    @pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8, torch.bool])
    def test_binary_data_of_any_type_are_the_same(self, dtype):
        model = self.make()
        x = model(size=6).detach()
        torch.manual_seed(1)
        wanted = log_densities(model, guides.Amortized(model), x, num_particles=2)
        guide = guides.Amortized(model)
        torch.manual_seed(2)
        found = log_densities(model, guide, x.to(dtype), num_particles=2)
        torch.manual_seed(2)
        wanted = log_densities(model, guide, x, num_particles=2)
        assert_close(found.log_weights, wanted.log_weights)

    def test_grey_data_are_refused_with_their_range(self):
        with pytest.raises(DataError, match=r"zeros and ones.*\[0, 0.5\]"):
            self.make()(torch.tensor([[0.0, 0.5, 0.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("options", "is_affine"),
    [
        ({}, True),
        ({"activation": "abs"}, True),
        ({"activation": "leaky_relu"}, True),
        ({"activation": "tanh"}, False),
        ({"likelihood": "bernoulli"}, False),
    ],
)
def test_it_is_piecewise_affine_only_where_it_is(options, is_affine):
    model = VAE(2, 5, hidden=(4,), **options)
    assert offers(model, PiecewiseAffine) is is_affine
    assert serves(guides.ExactCPA, model) is is_affine


def test_an_unknown_likelihood_gets_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'bernoulli'"):
        VAE(2, 5, likelihood="bernouli")
