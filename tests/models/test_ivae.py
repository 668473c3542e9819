"""IVAE: the contract with covariates, densities by hand, the mirror image that stays possible."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from pyrolvm import guides
from pyrolvm.core import DataError, IncompatiblePairError, log_densities, prior_predictive
from pyrolvm.models import IVAE
from pyrolvm.testing import ModelContract

U = torch.tensor([0, 3, 1, 1, 2, 0])


class TestIVAE(ModelContract):
    def make(self):
        return IVAE(latent_dim=2, obs_dim=3, num_environments=4, hidden=(5,), prior_hidden=(6,))

    def make_data(self, model):
        with torch.no_grad():
            return {"x": model(u=U), "u": U}

    def sample(self, model, size):
        return model(u=torch.arange(size) % 4, size=size)


class TestIVAEWithMeans(TestIVAE):
    def make(self):
        return IVAE(2, 3, 4, hidden=(5,), prior_hidden=(), learn_means=True, learn_noise=True)


def make():
    return IVAE(2, 3, 4, hidden=(5,), noise_scale=0.3, learn_means=True).double()


def test_log_densities_are_those_of_scipy():
    model = make()
    data = {"x": model(u=U).detach(), "u": U}
    guide = guides.ConditionalProduct(model)
    found = log_densities(model, guide, data, num_particles=3, keep_values=True)
    z = found.values["z"]
    prior = model.environment_prior
    loc, scale = prior.loc.detach()[U].numpy(), prior.scale.detach()[U].numpy()
    wanted = stats.norm(loc, scale).logpdf(z.numpy()).sum(-1)
    assert_close(found.prior["z"], torch.as_tensor(wanted), rtol=0, atol=1e-10)
    mean = model.decoder(z).detach().numpy()
    wanted = stats.norm(mean, 0.3).logpdf(data["x"].numpy()).sum(-1)
    # The scale of 0.3 is kept in single precision.
    assert_close(found.likelihood["x"], torch.as_tensor(wanted), rtol=1e-5, atol=1e-5)


def test_the_mirror_image_of_a_centred_model_explains_the_data_as_well():
    """Zero means: with the signs of z turned in decoder and encoder, every weight is the same."""
    model = IVAE(2, 3, 4, hidden=(5,), prior_hidden=(6,)).double()
    x = model(u=U).detach()
    guide = guides.ConditionalProduct(model, hidden=(5,)).double()
    z = guide.distribution(x, U).sample((10,))
    before = log_weight(model, guide, x, z)
    mirror(model, guide)
    assert_close(log_weight(model, guide, x, -z), before, rtol=0, atol=1e-10)
    assert (log_weight(model, guide, x, z) - before).abs().min() > 1e-3


def log_weight(model, guide, x, z):
    joint = model.conditional_prior(U).log_prob(z) + model.likelihood(z).log_prob(x)
    return joint - guide.distribution(x, U).log_prob(z)


def mirror(model, guide):
    with torch.no_grad():
        model.decoder[0].weight.neg_()
        guide.encoder[-1].weight[:2].neg_()
        guide.encoder[-1].bias[:2].neg_()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 3}, "u was not given"),
        ({"x": torch.zeros(2, 3)}, "u was not given"),
        ({"x": torch.zeros(2, 3), "u": torch.tensor([0, 1, 2])}, r"2 labels.*\(3,\)"),
        ({"u": torch.tensor([0, 1, 2]), "size": 2}, r"2 labels.*\(3,\)"),
        (
            {"x": torch.zeros(2, 3), "u": torch.tensor([0, 4])},
            "IVAE knows the environments 0 to 3",
        ),
        ({"x": torch.zeros(2, 3), "u": torch.tensor([0.0, 1.0])}, "whole numbers"),
    ],
)
def test_labels_that_do_not_fit_are_one_clear_sentence(arguments, message):
    with pytest.raises(DataError, match=message):
        make()(**arguments)


def test_a_guide_of_x_alone_is_refused_and_those_of_x_and_u_are_named():
    with pytest.raises(
        IncompatiblePairError,
        match=r"x alone.*argument u.*serve it: ConditionalEncoder, ConditionalProduct",
    ):
        guides.Amortized(make())


def test_prior_draws_take_their_labels_from_data():
    model = make()
    with torch.no_grad():
        model.environment_prior.network[-1].bias[:2] = 0.0
        model.environment_prior.network[-1].bias[2:] = -20.0  # scales near 0: z tells its label
    data = {"x": torch.zeros(2, 3), "u": torch.tensor([3, 1])}
    drawn = prior_predictive(model, 40, data).latents["z"]
    loc = model.environment_prior.loc.detach()[[3, 1]]
    nearest = torch.cdist(drawn, loc).min(-1)
    assert nearest.values.max() < 1e-3
    assert set(nearest.indices.tolist()) == {0, 1}
