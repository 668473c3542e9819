"""The bottom-up guide, whose rate is a divergence as a whole but not layer by layer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch.testing import assert_close

from pyrolvm.core import log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import BottomUp, Layerwise
from pyrolvm.models import HierarchicalLinearGaussian, HierarchicalVAE, SigmoidBeliefNetwork
from pyrolvm.nn.gaussian_head import SCALE_FLOOR
from pyrolvm.testing import GuideContract


class TestTwoLayers(GuideContract):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE(latent_dims=(3, 2), obs_dim=4, hidden=(6,))

    def make(self, model: Any) -> BottomUp:
        return BottomUp(model, hidden=(6,))


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

    def make(self, model: Any) -> BottomUp:
        return BottomUp(model, hidden=(6,), network="conv", channels=(2, 3))


class TestCategoricalTop(TestTwoLayers):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE((3, 4), obs_dim=4, hidden=(6,), top="categorical")


class TestBinaryLayers(GuideContract):
    def make_model(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork((4, 3, 2), obs_dim=5)

    def make(self, model: Any) -> BottomUp:
        return BottomUp(model, hidden=(6,))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_layers_are_drawn_from_the_bottom_up() -> None:
    model = HierarchicalVAE((3, 2, 2), obs_dim=4)
    trace = poutine.trace(BottomUp(model)).get_trace(torch.randn(5, 4))
    assert [name for name in trace.nodes if name.startswith("z_")] == ["z_1", "z_2", "z_3"]
    assert BottomUp.top_down is False


def distribution_of(trace: Any, site: str) -> Any:
    return trace.nodes[site]["fn"]


def test_upper_layers_read_nothing_but_the_layer_below() -> None:
    guide = BottomUp(HierarchicalVAE((3, 2), obs_dim=4))
    held = poutine.condition(guide, data={"z_1": torch.ones(5, 3)})
    runs = [poutine.trace(held).get_trace(torch.randn(5, 4)) for _ in range(2)]
    one, other = (distribution_of(run, "z_2") for run in runs)
    assert_close(one.mean, other.mean)


@pytest.mark.parametrize("num_layers", [2, 3, 5])
def test_gradients_reach_every_parameter_of_both(num_layers: int) -> None:
    model = HierarchicalVAE((3, 2, 4, 2, 3)[:num_layers], 4, hidden=(6,), learn_noise=True)
    guide = BottomUp(model, hidden=(6,))
    Trace_ELBO().differentiable_loss(model, guide, model(size=8).detach()).backward()
    for owner in (model, guide):
        for name, parameter in owner.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_terms_of_layers_can_be_negative_though_their_sum_is_a_divergence() -> None:
    """The posterior of a chain of single variables, factorised from the bottom up."""
    model = HierarchicalLinearGaussian((1, 1), obs_dim=2, scales=0.3).double().eval()
    model.requires_grad_(False)
    for loading in model.loadings:
        loading.fill_(1.0)
    guide = exact_from_below(model)
    x = model(size=200)
    terms = log_densities(model, guide, x, num_particles=100)
    assert_close(terms.log_weights, model.log_evidence(x).expand(100, 200), rtol=0, atol=1e-9)
    rates = {site: (terms.guide[site] - terms.prior[site]).mean(0) for site in ("z_2", "z_1")}
    total = sum(model.optimal_layers(x, {}).rates.values())
    assert isinstance(total, torch.Tensor)
    difference = rates["z_1"] + rates["z_2"] - total
    assert difference.mean().abs() < 5 * difference.std() / math.sqrt(200)
    assert all((rate > 0).all() for rate in model.optimal_layers(x, {}).rates.values())
    assert rates["z_1"].mean() < -5 * rates["z_1"].std() / math.sqrt(200)


def exact_from_below(model: HierarchicalLinearGaussian) -> BottomUp:
    """Affine heads set to p(z_1 | x) and p(z_2 | z_1); here z_1 has variance 1 + s²."""
    guide = BottomUp(model, hidden=()).double()
    marginal = model.layer_posterior("z_1", torch.eye(2).double())
    shrinkage = 1 / (1 + model.scales[0] ** 2)
    for site, weight, scale in (
        ("z_1", marginal.mean[:, 0], marginal.stddev[0, 0]),
        ("z_2", shrinkage, (1 - shrinkage).sqrt()),
    ):
        head: Any = guide.heads[site]
        last = head.network[-1]
        with torch.no_grad():
            last.weight.zero_()
            last.weight[0] = weight
            last.bias[0], last.bias[1] = 0, (scale - SCALE_FLOOR).expm1().log()
    return guide


def test_weights_of_rates_are_refused_with_the_reason() -> None:
    model = HierarchicalVAE((3, 2), obs_dim=4)
    with pytest.raises(SettingError, match="does not split into one for each layer"):
        BottomUp(model, rate_weights={"z_1": 1.0})
    assert Layerwise(model, rate_weights={"z_1": 2.0}).rate_weights["z_1"] == 2.0
