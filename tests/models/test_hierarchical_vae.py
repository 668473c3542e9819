"""HierarchicalVAE: its layers, its networks, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pyro.distributions import OneHotCategorical
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides
from pyrolvm.core import (
    DataError,
    IncompatiblePairError,
    Layered,
    UnknownNameError,
    VectorLatent,
    log_densities,
)
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.models import VAE, HierarchicalVAE
from pyrolvm.testing import ModelContract


class TestTwoLayers(ModelContract):
    def make(self) -> HierarchicalVAE:
        return HierarchicalVAE(latent_dims=(3, 2), obs_dim=4, hidden=(6,), learn_noise=True)


class TestFiveLayersWithSkips(ModelContract):
    def make(self) -> HierarchicalVAE:
        return HierarchicalVAE((3, 2, 1, 2, 2), obs_dim=4, hidden=(6,), skip=True)


class TestImages(ModelContract):
    def make(self) -> HierarchicalVAE:
        return HierarchicalVAE(
            latent_dims=(3, 2), obs_dim=192, hidden=(6,), network="conv", image_shape=(3, 8, 8),
            channels=(4, 6),
        )  # fmt: skip


class TestCategoricalTop(ModelContract):
    def make(self) -> HierarchicalVAE:
        return HierarchicalVAE(
            latent_dims=(3, 4), obs_dim=5, hidden=(6,), top="categorical", likelihood="bernoulli"
        )


@pytest.mark.parametrize("num_layers", [1, 2, 3, 5])
def test_layers_are_named_from_the_bottom_and_listed_from_the_top(num_layers: int) -> None:
    widths = (5, 4, 3, 2, 6)[:num_layers]
    model = HierarchicalVAE(widths, obs_dim=7, hidden=(8,))
    assert model.latent_sites == tuple(f"z_{layer}" for layer in range(num_layers, 0, -1))
    assert model.layer_dims == {f"z_{i}": width for i, width in enumerate(widths, 1)}
    assert offers(model, Layered)


def test_one_layer_is_a_vae() -> None:
    torch.manual_seed(0)
    model = HierarchicalVAE(2, obs_dim=4, hidden=(6,), noise_scale=0.3)
    flat = VAE(2, 4, hidden=(6,), activation="silu", noise_scale=0.3, learn_noise=False)
    flat.decoder.load_state_dict(model.decoder.state_dict())
    z, x = torch.randn(5, 2), torch.randn(5, 4)
    assert_close(model.layer_prior("z_1", {}).log_prob(z), flat.prior().log_prob(z))
    likelihood = model.layer_likelihood({"z_1": z})
    assert_close(likelihood.log_prob(x), flat.likelihood(z).log_prob(x))


def test_layers_start_near_unit_scale_and_depend_on_the_one_above() -> None:
    torch.manual_seed(0)
    model = HierarchicalVAE((16, 8, 4), obs_dim=64)
    latents: dict[str, Any] = {}
    with torch.no_grad():
        for site in model.latent_sites:
            prior = model.layer_prior(site, latents)
            latents[site] = prior.expand(torch.Size([2000])).sample()
            assert 0.9 < latents[site].std() < 1.2
            if site != "z_3":
                assert 0.8 < prior.stddev.min() < prior.stddev.max() < 1.2
                assert prior.mean.std(0).mean() > 0.05


def test_only_the_next_layer_counts_without_skips() -> None:
    model = HierarchicalVAE((3, 2, 2), obs_dim=4, hidden=(6,))
    skipping = HierarchicalVAE((3, 2, 2), obs_dim=4, hidden=(6,), skip=True)
    one = {"z_3": torch.zeros(5, 2), "z_2": torch.ones(5, 2), "z_1": torch.ones(5, 3)}
    other = {**one, "z_3": torch.ones(5, 2)}
    assert_close(model.layer_prior("z_1", one).mean, model.layer_prior("z_1", other).mean)
    assert_close(model.generate(one), model.generate(other))
    assert not torch.allclose(skipping.generate(one), skipping.generate(other))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_generates_the_mean_of_x(likelihood: str) -> None:
    model = HierarchicalVAE((3, 2), 4, hidden=(6,), likelihood=likelihood)
    latents = {"z_2": torch.randn(5, 2), "z_1": torch.randn(5, 3)}
    assert_close(model.generate(latents), model.layer_likelihood(latents).mean)


@pytest.mark.parametrize("noise_scale", [0.1, 0.71])
def test_noise_is_fixed_unless_asked(noise_scale: float) -> None:
    fixed = HierarchicalVAE((3, 2), 4, noise_scale=noise_scale)
    learned = HierarchicalVAE((3, 2), 4, noise_scale=noise_scale, learn_noise=True)
    assert fixed.layer_likelihood({"z_1": torch.zeros(1, 3)}).stddev.unique().numel() == 1
    assert fixed.noise is not None
    assert fixed.noise().item() == pytest.approx(noise_scale)
    assert len(list(learned.parameters())) == len(list(fixed.parameters())) + 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (1, 12, 20)])
def test_convolutions_serve_images_under_particles(shape: tuple[int, int, int]) -> None:
    obs_dim = math.prod(shape)
    model = HierarchicalVAE(
        (4, 3), obs_dim, hidden=(8,), network="conv", image_shape=shape, channels=(2, 3), skip=True
    )
    guide = guides.Ladder(model, hidden=(8,), network="conv", channels=(2, 3))
    x = model(size=3).detach()
    assert log_densities(model, guide, x, num_particles=2).log_weights.shape == (2, 3)
    latents = {"z_2": torch.randn(2, 3, 3), "z_1": torch.randn(2, 3, 4)}
    together = model.generate(latents)
    alone = model.generate({name: value[1, 2:] for name, value in latents.items()})
    assert together.shape == (2, 3, obs_dim)
    assert_close(together[1, 2:], alone, rtol=1e-4, atol=1e-5)


def test_a_categorical_top_is_uniform_over_one_hot_vectors() -> None:
    model = HierarchicalVAE((3, 5), 4, top="categorical")
    prior = model.layer_prior("z_2", {})
    assert isinstance(prior, OneHotCategorical)
    assert_close(prior.log_prob(torch.eye(5)), torch.full((5,), -math.log(5)))


def test_training_raises_the_bound() -> None:
    torch.manual_seed(0)
    x = torch.rand(256, 6)
    model = HierarchicalVAE((4, 2), 6, hidden=(16,), noise_scale=0.3)
    fitted = lvm.fit(
        model, guides.Layerwise(model, hidden=(16,)), x, steps=150, learning_rate=1e-2,
        progress=False,
    )  # fmt: skip
    assert fitted.losses[-20:].mean() < fitted.losses[:20].mean() - 1


def test_guides_for_one_vector_are_refused() -> None:
    model = HierarchicalVAE((3, 2), 4)
    assert not offers(model, VectorLatent)
    with pytest.raises(IncompatiblePairError, match=r"BottomUp, Ladder, Layerwise"):
        guides.Amortized(model)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"likelihood": "poisson"}, "Unknown likelihood 'poisson'"),
        ({"network": "resnet"}, "Unknown network 'resnet'"),
        ({"top": "discrete"}, "Unknown top 'discrete'"),
        ({"activation": "rely"}, "Did you mean 'relu'"),
        ({"latent_dims": ()}, "num_layers should be at least 1"),
        ({"latent_dims": (3, 0)}, "positive whole numbers"),
        ({"network": "conv"}, "need image_shape"),
        ({"network": "conv", "image_shape": (1, 8, 9)}, "have 72 values, but an observation has"),
        ({"network": "conv", "image_shape": (1, 2, 32)}, "the images are 2 x 32"),
        ({"image_shape": (1, 8, 9)}, r"has 64 values, but it is \(1, 8, 9\)"),
        ({"image_shape": (8, 8)}, r"has 64 values, but it is \(8, 8\)"),
    ],
)
def test_a_wrong_setting_is_one_clear_sentence(options: dict[str, Any], part: str) -> None:
    with pytest.raises((SettingError, UnknownNameError), match=part):
        HierarchicalVAE(**options)


def test_wrong_requests_are_refused() -> None:
    model = HierarchicalVAE((3, 2), 4, likelihood="bernoulli")
    with pytest.raises(UnknownNameError, match="Unknown layer 'z'"):
        model.layer_prior("z", {})
    with pytest.raises(DataError, match="needs data of zeros and ones"):
        model(torch.rand(3, 4))
