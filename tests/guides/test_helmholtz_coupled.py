"""The bottom-up guide of binary layers: its densities, its exact case, and what it serves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli, Poisson, TorchDistribution
from torch import Tensor
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import models
from pyrolvm.core import IncompatiblePairError, SiteError, UnknownNameError, log_densities, serves
from pyrolvm.core.data import Data
from pyrolvm.core.errors import SettingError
from pyrolvm.core.tracing import log_density_at
from pyrolvm.guides import HelmholtzCoupled
from pyrolvm.models import SigmoidBeliefNetwork
from pyrolvm.objectives import CoupledELBO
from pyrolvm.testing import GuideContract


class TestOneLayer(GuideContract):
    def make_model(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=3, obs_dim=4)

    def make(self, model: Any) -> HelmholtzCoupled:
        return HelmholtzCoupled(model)


class TestFourLayers(TestOneLayer):
    def make_model(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=(4, 3, 2, 2), obs_dim=5)


class TestDeterministicLayers(TestOneLayer):
    def make_model(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=(4, 3), obs_dim=5, num_deterministic=1)

    def make(self, model: Any) -> HelmholtzCoupled:
        return HelmholtzCoupled(model, num_deterministic=1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def states(width: int) -> Tensor:
    """All vectors of zeros and ones, shape ``(2^width, width)``."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * width)


def scattered(module: Any) -> Any:
    """Give a module weights in (-2, 2), in double precision."""
    for parameter in module.double().eval().requires_grad_(False).parameters():
        parameter.uniform_(-2, 2)
    return module


def test_probabilities_of_all_states_sum_to_one_for_each_datum() -> None:
    guide = scattered(HelmholtzCoupled(SigmoidBeliefNetwork((3, 2, 2), obs_dim=4)))
    x, every = states(4), states(7)
    z_3, z_2, z_1 = (part[:, None].expand(-1, 16, -1) for part in every.split([2, 2, 3], -1))
    values = {"z_3": z_3, "z_2": z_2, "z_1": z_1}
    found = log_density_at(guide, Data.of(x), values, -2)
    assert_close(sum(found.values(), torch.zeros(())).exp().sum(0), torch.ones(16).double())
    below = {"z_1": x, "z_2": z_1, "z_3": z_2}
    for site, density in found.items():
        layer = guide.layers[site].network[0]
        on = torch.sigmoid(below[site] @ layer.weight.T + layer.bias)
        by_hand = (values[site] * on.log() + (1 - values[site]) * (1 - on).log()).sum(-1)
        assert_close(density, by_hand.expand_as(density))


def value_of(trace: Any, site: str) -> Tensor:
    value: Tensor = trace.nodes[site]["value"]
    return value


def test_layers_are_drawn_from_the_bottom_up_each_from_the_one_below() -> None:
    guide = HelmholtzCoupled(SigmoidBeliefNetwork((4, 3, 2), obs_dim=5))
    x = torch.ones(6, 5)
    trace = poutine.trace(guide).get_trace(x)
    assert [name for name in trace.nodes if name.startswith("z_")] == ["z_1", "z_2", "z_3"]
    for site, below in (("z_1", x), ("z_2", value_of(trace, "z_1"))):
        law: Any = trace.nodes[site]["fn"]
        assert_close(law.mean, guide.layer_logits(site, below).sigmoid())
    assert HelmholtzCoupled.top_down is False


def test_one_hidden_unit_has_an_affine_posterior_and_then_weights_are_constant() -> None:
    """log p(z=1|x) - log p(z=0|x) = a + sum_i [x_i w_i + softplus(b_i) - softplus(b_i + w_i)]."""
    model = scattered(SigmoidBeliefNetwork(1, obs_dim=6))
    guide = HelmholtzCoupled(model).double().requires_grad_(False)
    likelihood: Any = model.layers["x"]
    weight, bias = likelihood.network[0].weight[:, 0], likelihood.network[0].bias
    layer: Any = guide.layers["z_1"]
    layer.network[0].weight.copy_(weight[None])
    softplus = torch.nn.functional.softplus
    shift = (softplus(bias) - softplus(bias + weight)).sum()
    layer.network[0].bias.copy_(model.layer_logits("z_1", None) + shift)

    x = states(6)
    both = torch.tensor([[[0.0]], [[1.0]]]).double()
    prior = model.layer_prior("z_1", {}).log_prob(both)
    evidence = (prior + model.layer_likelihood({"z_1": both}).log_prob(x)).logsumexp(0)
    assert_close(evidence.exp().sum().item(), 1.0, rtol=0, atol=1e-12)
    weights = log_densities(model, guide, x, num_particles=50).log_weights
    assert_close(weights, evidence.expand(50, 64), rtol=0, atol=1e-12)


class TwoBinaryLayers:
    """A Pyro program of a user's own that knows nothing of PyroLVM but the names of `Layered`."""

    latent_sites = ("z_2", "z_1")
    layer_dims = {"z_2": 2, "z_1": 3}  # noqa: RUF012 - as a user would write it
    obs_dim = 4

    def layer_prior(self, site: str, above: Any) -> TorchDistribution:
        if site == "z_2":
            return Bernoulli(torch.full((2,), 0.4)).to_event(1)
        on = 0.2 + 0.3 * above["z_2"].sum(-1, keepdim=True)
        return Bernoulli(on.expand(*on.shape[:-1], 3)).to_event(1)

    def layer_likelihood(self, latents: Any) -> TorchDistribution:
        on = 0.1 + 0.25 * latents["z_1"].sum(-1, keepdim=True)
        return Bernoulli(on.expand(*on.shape[:-1], 4)).to_event(1)

    def __call__(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            latents: dict[str, Tensor] = {}
            for site in self.latent_sites:
                latents[site] = pyro.sample(site, self.layer_prior(site, latents))
            pyro.sample("x", self.layer_likelihood(latents), obs=x)


def test_it_serves_a_users_own_program_with_binary_layers() -> None:
    model = TwoBinaryLayers()
    guide = HelmholtzCoupled(model)
    x = torch.rand(50, 4).lt(0.4).float()
    fitted = lvm.fit(
        model, guide, x, steps=60, learning_rate=3e-2, loss=CoupledELBO(5), progress=False
    )
    assert fitted.losses[-10:].mean() < fitted.losses[:10].mean()
    assert log_densities(model, guide, x, num_particles=20).log_weights.shape == (20, 50)


def with_top(law: TorchDistribution) -> SimpleNamespace:
    return SimpleNamespace(
        latent_sites=("z_1",), layer_dims={"z_1": 2}, obs_dim=3,
        layer_prior=lambda site, above: law, layer_likelihood=lambda latents: None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (models.VAE(2, 4), "the capability Layered, which VAE does not offer"),
        (
            models.HierarchicalVAE((3, 2), 4),
            "the layer 'z_2' of HierarchicalVAE is drawn from a N",
        ),
        (models.HierarchicalVAE((3, 2), 4, top="categorical"), "'z_2' .* is a one-hot vector"),
        (with_top(Poisson(torch.ones(2)).to_event(1)), "'z_1' of SimpleNamespace .* a Poisson"),
    ],
)
def test_other_models_are_refused_in_one_sentence(model: Any, sentence: str) -> None:
    assert not serves(HelmholtzCoupled, model)
    with pytest.raises(IncompatiblePairError, match=rf"HelmholtzCoupled needs .*{sentence}"):
        HelmholtzCoupled(model)


def test_a_guide_that_forgets_a_layer_is_one_clear_sentence() -> None:
    model = SigmoidBeliefNetwork((3, 2), obs_dim=4)

    def forgetful(x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z_1", Bernoulli(torch.full((3,), 0.5)).to_event(1))

    x = torch.ones(6, 4)
    with pytest.raises(SiteError, match="z_2"):
        log_densities(model, forgetful, x, num_particles=2)
    with pytest.raises(SiteError, match="z_2"):
        lvm.fit(model, forgetful, x, steps=2, loss=CoupledELBO(2), progress=False)


def test_wrong_requests_are_refused() -> None:
    model = SigmoidBeliefNetwork((3, 2), obs_dim=4)
    with pytest.raises(UnknownNameError, match="Unknown layer 'z_3'"):
        HelmholtzCoupled(model).layer_logits("z_3", torch.ones(1, 2))
    with pytest.raises(SettingError, match="num_deterministic"):
        HelmholtzCoupled(model, num_deterministic=-1)
