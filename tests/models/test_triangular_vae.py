"""TriangularVAE: triangular at its anchors, free elsewhere, identified for known noise."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import TriangularMonotone, VectorLatent, log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.nn.triangular import is_triangular_monotone, jacobian
from pyrolvm.registry import make_model
from pyrolvm.testing import ModelContract


class TestTriangularVAE(ModelContract):
    def make(self):
        return models.TriangularVAE(2, 5, hidden=(8,), anchors=(3, 1), signature=(1, -1))


class TestAnchorsOnly(ModelContract):
    def make(self):
        return models.TriangularVAE(2, 2, kind="integral", prior="logistic")


def drawn(**options):
    torch.manual_seed(0)
    model = models.TriangularVAE(2, 5, hidden=(8,), **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, torch.randn(30, 2, dtype=torch.float64)


@pytest.mark.parametrize("anchors", [None, (4, 0), (0, 4)])
@pytest.mark.parametrize("signature", [(1, 1), (-1, 1)])
def test_the_anchors_are_triangular_in_their_order_with_the_signature(anchors, signature):
    model, z = drawn(anchors=anchors, signature=signature)
    model.standardise_by(torch.randn(20, 5) * torch.arange(1, 6))
    chosen = anchors or (0, 1)
    assert_close(model.generate_anchors(z), model.generate(z)[:, list(chosen)])
    assert is_triangular_monotone(model.generate_anchors, z, signature)
    swapped = list(reversed(chosen))
    assert not is_triangular_monotone(lambda u: model.generate(u)[:, swapped], z, signature)


def test_the_rest_depends_on_all_of_z():
    model, z = drawn()
    for outputs in ([2, 3], [3, 4], [4, 2]):
        found = jacobian(lambda u, chosen=outputs: model.generate(u)[:, chosen], z)
        assert (found.abs().mean(0) > 1e-3).all()


def test_the_outputs_are_in_the_units_of_the_data():
    x = torch.randn(500, 5) * torch.tensor([1.0, 10, 100, 1e3, 1e4]) + 50
    model = models.TriangularVAE(2, 5, hidden=(8,), anchors=(4, 2))
    lvm.fit(model, guides.Amortized(model).standardise_by(x), x, steps=1, progress=False)
    inner = torch.cat([model.triangular(torch.zeros(1, 2))[0], model.free(torch.zeros(1, 2))], -1)
    wanted = inner[0, [2, 3, 1, 4, 0]] * x.std(0) + x.mean(0)
    assert_close(model.generate(torch.zeros(1, 2))[0], wanted)


def test_ordinary_guides_train_it_and_the_likelihood_is_by_hand():
    torch.manual_seed(0)
    x = models.TriangularVAE(2, 5, hidden=(8,))(size=200).detach()
    model = models.TriangularVAE(2, 5, hidden=(8,))
    guide = guides.Amortized(model, family="full", hidden=(16,))
    fit = lvm.fit(model, guide, x, steps=150, learning_rate=1e-2, progress=False)
    assert fit.losses[-20:].mean() < fit.losses[:20].mean() - 1
    found = log_densities(model, guide, x[:4], num_particles=3, keep_values=True)
    model = model.double()
    noise = torch.distributions.Normal(model.generate(found.values["z"]), 0.1)
    wanted = noise.log_prob(x[:4].double()).sum(-1).detach()
    assert_close(found.likelihood["x"], wanted, rtol=1e-5, atol=1e-5)


def test_it_offers_a_latent_vector_and_the_triangular_form():
    model = models.TriangularVAE(2, 5, signature=(1, -1))
    assert offers(model, VectorLatent)
    assert offers(model, TriangularMonotone)
    assert (model.signature, model.prior_is_fixed) == ((1, -1), True)


def test_noise_is_fixed_and_learning_it_warns():
    assert not models.TriangularVAE(2, 5).noise.learns
    assert not make_model("triangular-vae:2", 5).noise.learns
    with pytest.warns(UserWarning, match="identifies z for known noise only"):
        assert models.TriangularVAE(2, 5, learn_noise=True).noise.learns


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dim": 0}, "latent_dim should be at least 1"),
        ({"latent_dim": 3, "obs_dim": 2}, "obs_dim is 2 and latent_dim 3"),
        ({"anchors": (0,)}, "2 different outputs"),
        ({"anchors": (1, 1)}, "2 different outputs"),
        ({"anchors": (0, 8)}, "outputs from 0 to 7"),
        ({"signature": (1,)}, "needs 2 signs"),
        ({"noise_scale": 0.0}, "noise scale must be finite"),
    ],
)
def test_settings_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        models.TriangularVAE(**arguments)
