"""The layerwise guide: its networks, its weights, and the optimum of a linear hierarchy."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli, Normal, Poisson, TorchDistribution
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm.core import (
    IncompatiblePairError,
    UnknownNameError,
    evaluating,
    log_densities,
)
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import Amortized, Ladder, Layerwise
from pyrolvm.models import (
    VAE,
    HierarchicalLinearGaussian,
    HierarchicalVAE,
    SigmoidBeliefNetwork,
)
from pyrolvm.nn.gaussian_head import SCALE_FLOOR
from pyrolvm.testing import GuideContract


class TestTwoLayers(GuideContract):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE(latent_dims=(3, 2), obs_dim=4, hidden=(6,))

    def make(self, model: Any) -> Layerwise:
        return Layerwise(model, hidden=(6,))


class TestThreeLayers(TestTwoLayers):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE((3, 2, 2), obs_dim=4, hidden=(6,), skip=True)


class TestFiveLayers(TestTwoLayers):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE((3, 2, 1, 2, 2), obs_dim=4, hidden=(6,), likelihood="bernoulli")


class TestImages(TestTwoLayers):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE(
            (3, 2), 192, hidden=(6,), network="conv", image_shape=(3, 8, 8), channels=(4,)
        )

    def make(self, model: Any) -> Layerwise:
        return Layerwise(model, hidden=(6,), network="conv", channels=(2, 3))


class TestCategoricalTop(TestTwoLayers):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE((3, 4), obs_dim=4, hidden=(6,), top="categorical")


class TestBinaryLayers(GuideContract):
    def make_model(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork((4, 3, 2), obs_dim=5)

    def make(self, model: Any) -> Layerwise:
        return Layerwise(model, hidden=(6,))


class TestOptimal(GuideContract):
    def make_model(self) -> HierarchicalLinearGaussian:
        return HierarchicalLinearGaussian(latent_dims=(3, 2, 2), obs_dim=4)

    def make(self, model: Any) -> Layerwise:
        return Layerwise.optimal(model, {"z_1": 0.3, "z_3": 2.0})


def pair(num_layers: int = 2, **options: Any) -> tuple[HierarchicalVAE, Layerwise, Tensor]:
    torch.manual_seed(0)
    widths = (3, 2, 4, 2, 3)[:num_layers]
    model = HierarchicalVAE(widths, obs_dim=4, hidden=(6,), learn_noise=True)
    return model, Layerwise(model, hidden=(6,), **options), model(size=8).detach()


@pytest.mark.parametrize("num_layers", [1, 2, 3, 5])
def test_layers_are_drawn_from_the_top_down(num_layers: int) -> None:
    model, guide, x = pair(num_layers)
    trace = poutine.trace(guide).get_trace(x)
    drawn = [name for name in trace.nodes if name in model.layer_dims]
    assert tuple(drawn) == model.latent_sites
    assert guide.top_down


@pytest.mark.parametrize("num_layers", [2, 3, 5])
@pytest.mark.parametrize("kind", [Layerwise, Ladder])
def test_gradients_reach_every_parameter_of_both(kind: type, num_layers: int) -> None:
    model, _, x = pair(num_layers)
    guide = kind(model, hidden=(6,))
    Trace_ELBO().differentiable_loss(model, guide, x).backward()
    for owner in (model, guide):
        for name, parameter in owner.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_starts_near_the_standard_normal() -> None:
    _, guide, x = pair(3)
    terms = poutine.trace(guide).get_trace(x.expand(50, 8, 4).reshape(-1, 4))
    for site in guide.sites:
        value = terms.nodes[site]["value"]
        assert isinstance(value, Tensor)
        assert value.mean().abs() < 0.15
        assert 0.8 < value.std() < 1.2


def test_each_layer_reads_x_and_all_layers_above() -> None:
    _, guide, x = pair(3)
    above = {"z_3": torch.randn(8, 4), "z_2": torch.randn(8, 2)}
    base = guide.layer_posterior("z_1", above, x).mean
    for changed in ({"z_3": above["z_3"] + 1}, {"z_2": above["z_2"] + 1}):
        other = guide.layer_posterior("z_1", {**above, **changed}, x).mean
        assert (base - other).abs().min() > 0
    assert (base - guide.layer_posterior("z_1", above, x + 1).mean).abs().min() > 0


def test_inputs_are_read_in_units_of_the_data() -> None:
    _, guide, x = pair()
    plain = guide.layer_posterior("z_2", {}, (x - x.mean(0)) / (x - x.mean(0)).std(correction=0))
    guide.standardise_by(x)
    assert_close(guide.layer_posterior("z_2", {}, x).mean, plain.mean)


def test_one_layer_is_an_amortized_guide() -> None:
    torch.manual_seed(0)
    model = HierarchicalVAE(3, obs_dim=4)
    flat = Amortized(VAE(3, 4), hidden=(6,), activation="silu")
    guide = Layerwise(model, hidden=(6,))
    head: Any = guide.heads["z_1"]
    head.network.load_state_dict(flat.encoder.state_dict())
    x = torch.randn(7, 4)
    one, other = guide.layer_posterior("z_1", {}, x), flat.distribution(x)
    assert_close(one.mean, other.mean)
    assert_close(one.stddev, other.stddev, rtol=1e-3, atol=1e-3)  # floors differ


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, {"z_2": 1.0, "z_1": 1.0}),
        ({"z_2": 0.5}, {"z_2": 0.5, "z_1": 1.0}),
        ((0.3, 3.0), {"z_2": 3.0, "z_1": 0.3}),
        (0.0, {"z_2": 0.0, "z_1": 0.0}),
        (torch.tensor(0.5), {"z_2": 0.5, "z_1": 0.5}),
    ],
)
def test_weights_are_kept_by_name_top_first(given: Any, wanted: dict[str, float]) -> None:
    guide = pair(rate_weights=given)[1]
    assert guide.rate_weights == wanted
    assert list(guide.rate_weights) == list(guide.sites)


def test_a_weight_may_be_a_tensor_that_learns() -> None:
    weight = torch.tensor(0.5, requires_grad=True)
    assert pair(rate_weights={"z_1": weight})[1].rate_weights["z_1"] is weight


def test_weights_do_not_change_the_density() -> None:
    model, guide, x = pair()
    other = Layerwise(model, rate_weights=(0.1, 10.0), hidden=(6,))
    other.load_state_dict(guide.state_dict())
    latents = {"z_2": torch.randn(8, 2)}
    assert_close(
        guide.layer_posterior("z_1", latents, x).mean,
        other.layer_posterior("z_1", latents, x).mean,
    )


@pytest.mark.parametrize(
    ("weights", "part"),
    [
        ({"z_3": 1.0}, "Unknown layer in rate_weights 'z_3'"),
        ({"z_1": -0.5}, "0 or more, but that of 'z_1' is -0.5"),
        ({"z_2": math.nan}, "0 or more, but that of 'z_2' is nan"),
        ({"z_2": torch.tensor(-1.0)}, "0 or more, but that of 'z_2' is -1"),
        ((1.0, 1.0, 1.0), "one for each of the 2 layers, bottom first, but there are 3"),
        ({"z_1": "much"}, "is a number, but that of 'z_1' is 'much'"),
        ({"z_1": None}, "is a number, but that of 'z_1' is None"),
        ({"z_1": torch.ones(2)}, r"one number, but that of 'z_1' has shape \(2,\)"),
    ],
)
def test_wrong_weights_are_one_clear_sentence(weights: Any, part: str) -> None:
    with pytest.raises((SettingError, UnknownNameError), match=part):
        pair(rate_weights=weights)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"family": "full"}, "Unknown family of Layerwise 'full'"),
        ({"network": "cnn"}, "Did you mean 'conv'"),
        ({"network": "conv"}, "need image_shape"),
    ],
)
def test_wrong_settings_are_one_clear_sentence(options: dict[str, Any], part: str) -> None:
    with pytest.raises((SettingError, UnknownNameError), match=part):
        pair(**options)


def test_convolutions_take_the_shape_of_the_models_images() -> None:
    model = HierarchicalVAE((3, 2), 64, network="conv", image_shape=(1, 8, 8))
    assert Layerwise(model, network="conv").readers["z_1"].image_shape == (1, 8, 8)
    told = HierarchicalVAE((3, 2), 64, image_shape=(1, 8, 8))
    assert Layerwise(told, network="conv").readers["z_1"].image_shape == (1, 8, 8)
    flat = HierarchicalVAE((3, 2), 64)
    guide = Layerwise(flat, network="conv", image_shape=(1, 8, 8))
    assert guide.readers["z_2"].image_shape == (1, 8, 8)


class TestOptimum:
    """On the linear Gaussian hierarchy."""

    @pytest.fixture(autouse=True)
    def _seed(self) -> None:
        torch.manual_seed(1)

    @pytest.mark.parametrize("widths", [(3,), (3, 2), (3, 2, 2)])
    def test_with_weights_of_one_it_is_the_posterior(self, widths: tuple[int, ...]) -> None:
        """Every draw has the same importance weight, the evidence."""
        model = HierarchicalLinearGaussian(widths, obs_dim=4)
        x = model(size=6).detach()
        terms = log_densities(model, Layerwise.optimal(model), x, num_particles=20)
        with evaluating(model):
            evidence = model.log_evidence(x.double())
        assert_close(terms.log_weights, evidence.expand(20, 6), rtol=0, atol=1e-9)

    def test_its_rates_are_those_of_the_closed_form(self) -> None:
        model = HierarchicalLinearGaussian((3, 2, 2), obs_dim=4).double()
        guide = Layerwise.optimal(model, (0.4, 2.5, 0.8))
        x = model(size=3).detach()
        wanted = model.optimal_layers(x, guide.rate_weights)
        terms = log_densities(model, guide, x, num_particles=20_000)
        drawn = {site: terms.guide[site] - terms.prior[site] for site in model.latent_sites}
        drawn["x"] = -terms.likelihood["x"]
        for site, exact in {**wanted.rates, "x": wanted.distortion}.items():
            error = drawn[site].std(0) / math.sqrt(20_000)
            assert ((drawn[site].mean(0) - exact).abs() < 5 * error).all()

    def test_it_follows_the_model(self) -> None:
        model = HierarchicalLinearGaussian()
        guide, x = Layerwise.optimal(model), model(size=3).detach()
        before = guide.layer_posterior("z_2", {}, x).mean
        SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.1}), Trace_ELBO()).step(x)
        assert not list(guide.parameters())
        assert (guide.layer_posterior("z_2", {}, x).mean - before).abs().max() > 1e-3

    @pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 3.0)])
    def test_an_affine_guide_can_be_the_optimum(self, weights: tuple[float, float]) -> None:
        """One latent a layer, so that diagonal Gaussians are not a restriction."""
        model = HierarchicalLinearGaussian((1, 1), obs_dim=3).double()
        guide, best = Layerwise(model, hidden=()).double(), Layerwise.optimal(model, weights)
        x, zero = torch.eye(3).double(), torch.zeros(3, 1).double()
        for site, above in (("z_2", {}), ("z_1", {"z_2": zero})):
            q = best.layer_posterior(site, above, x)
            head: Any = guide.heads[site]
            last = head.network[-1]
            with torch.no_grad():
                last.weight.zero_()
                last.weight[0, :3] = q.mean[:, 0]
                if above:
                    pulled = best.layer_posterior(site, {"z_2": zero + 1}, x)
                    last.weight[0, 3] = (pulled.mean - q.mean)[0, 0]
                last.bias[0] = 0
                last.bias[1] = (q.stddev[0, 0] - SCALE_FLOOR).expm1().log()
        x = model(size=5).detach()
        z = {"z_2": torch.randn(5, 1).double()}
        for site in guide.sites:
            ours, theirs = (g.layer_posterior(site, z, x) for g in (guide, best))
            assert_close(ours.mean, theirs.mean)
            assert_close(ours.variance, theirs.variance)

    def test_other_models_and_weights_of_zero_are_refused(self) -> None:
        with pytest.raises(IncompatiblePairError, match="HasOptimalLayers, which HierarchicalVAE"):
            Layerwise.optimal(HierarchicalVAE((3, 2), 4))
        with pytest.raises(SettingError, match="positive rate_weights, but that of 'z_2' is 0"):
            Layerwise.optimal(HierarchicalLinearGaussian(), {"z_2": 0.0})


class Mixed:
    """A user's own hierarchy: binary causes over a real layer."""

    latent_sites = ("z_2", "z_1")
    layer_dims = {"z_2": 2, "z_1": 3}  # noqa: RUF012 - as a user would write it
    obs_dim = 3

    def __init__(self, top: TorchDistribution) -> None:
        self.top = top

    def layer_prior(self, site: str, above: Any) -> TorchDistribution:
        if site == "z_2":
            return self.top
        loc = above["z_2"].sum(-1, keepdim=True)
        return Normal(loc.expand(*loc.shape[:-1], 3), 1.0).to_event(1)

    def layer_likelihood(self, latents: Any) -> TorchDistribution:
        return Normal(latents["z_1"], 0.5).to_event(1)

    def __call__(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            latents: dict[str, Tensor] = {}
            for site in self.latent_sites:
                latents[site] = pyro.sample(site, self.layer_prior(site, latents))
            pyro.sample("x", self.layer_likelihood(latents), obs=x)


def test_each_layer_gets_a_law_over_the_values_of_its_prior() -> None:
    model = Mixed(Bernoulli(torch.full((2,), 0.4)).to_event(1))
    guide = Layerwise(model, hidden=(6,))
    assert guide.layer_values == {"z_2": "binary", "z_1": "real"}
    x = torch.randn(8, 3)
    draws = guide(x)
    assert set(draws["z_2"].unique().tolist()) <= {0.0, 1.0}
    assert draws["z_1"].unique().numel() == 24
    assert log_densities(model, guide, x, num_particles=4).log_weights.isfinite().all()


def test_layers_of_other_counts_are_refused() -> None:
    model = Mixed(Poisson(torch.ones(2)).to_event(1))
    with pytest.raises(IncompatiblePairError, match=r"the layer 'z_2' of Mixed .* a Poisson"):
        Layerwise(model)


def test_rates_of_binary_layers_can_be_weighed() -> None:
    model = SigmoidBeliefNetwork((4, 2), obs_dim=5)
    guide = Layerwise(model, rate_weights={"z_1": 0.5}, hidden=(6,))
    fitted = lvm.fit(model, guide, model(size=40), steps=20, progress=False)
    assert fitted.rate_history is not None
    assert fitted.losses.isfinite().all()
