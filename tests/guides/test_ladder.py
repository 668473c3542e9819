"""The ladder guide: its merge, and the networks that it shares with the model."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import MultivariateNormal, Normal
from pyro.infer import Trace_ELBO
from torch import Tensor
from torch.testing import assert_close

from pyrolvm.core import IncompatiblePairError, UnknownNameError, log_densities, serves
from pyrolvm.guides import Ladder
from pyrolvm.guides.ladder import merged
from pyrolvm.models import HierarchicalLinearGaussian, HierarchicalVAE, SigmoidBeliefNetwork
from pyrolvm.nn.one_hot import StraightThroughOneHot
from pyrolvm.testing import GuideContract


class TestTwoLayers(GuideContract):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE(latent_dims=(3, 2), obs_dim=4, hidden=(6,))

    def make(self, model: Any) -> Ladder:
        return Ladder(model, hidden=(6, 5))


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

    def make(self, model: Any) -> Ladder:
        return Ladder(model, hidden=(6,), network="conv", channels=(2, 3))


class TestCategoricalTop(TestTwoLayers):
    def make_model(self) -> HierarchicalVAE:
        return HierarchicalVAE((3, 4), obs_dim=4, hidden=(6,), top="categorical")


def gaussian(dim: int = 5) -> Normal:
    return Normal(torch.randn(7, dim), torch.rand(7, dim) + 0.1).to_event(1)


def last_layer(head: Any) -> Any:
    return head.network[-1]


def say_nothing(guide: Ladder) -> None:
    """Let every data branch put out a huge variance."""
    with torch.no_grad():
        for site, dim in guide.layer_dims.items():
            last = last_layer(guide.heads[site])
            last.weight[dim:] = 0
            last.bias[dim:] = 1e15


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_precisions_add_up() -> None:
    told, prior = gaussian(), gaussian()
    found, (v, w) = merged(told, prior), (told.variance, prior.variance)
    assert_close(found.variance, v * w / (v + w))
    assert_close(found.mean, (told.mean * w + prior.mean * v) / (v + w))
    assert_close(1 / found.variance, 1 / v + 1 / w)


def test_the_merge_is_narrower_than_either() -> None:
    told, prior = gaussian(), gaussian()
    assert (merged(told, prior).variance < torch.minimum(told.variance, prior.variance)).all()


def test_the_merge_is_the_product_of_densities() -> None:
    """Up to the integral of the product, which does not depend on the point."""
    told, prior = gaussian(2), gaussian(2)
    z = torch.randn(9, 7, 2)
    product = told.log_prob(z) + prior.log_prob(z) - merged(told, prior).log_prob(z)
    assert_close(product, product[:1].expand(9, 7), rtol=1e-4, atol=1e-4)
    total = told.variance + prior.variance
    overlap = MultivariateNormal(told.mean, torch.diag_embed(total)).log_prob(prior.mean)
    assert_close(product[0], overlap, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_where_x_says_nothing_the_guide_is_the_prior(num_layers: int) -> None:
    model = HierarchicalVAE((3, 2, 4)[:num_layers], obs_dim=4, hidden=(6,)).double()
    guide = Ladder(model, hidden=(6,)).double()
    say_nothing(guide)
    terms = log_densities(model, guide, model(size=5).detach(), num_particles=10)
    for site in model.latent_sites:
        assert_close(terms.guide[site], terms.prior[site], rtol=0, atol=1e-12)


def test_no_layer_is_wider_than_its_prior() -> None:
    model = HierarchicalVAE((3, 2, 2), obs_dim=4, hidden=(6,))
    guide, x = Ladder(model, hidden=(6,)), torch.randn(8, 4)
    latents = guide(x)
    for site in guide.sites:
        prior = model.layer_prior(site, latents)
        assert (guide.layer_posterior(site, latents, x).stddev < prior.stddev).all()


def test_priors_are_read_live_and_stay_the_models() -> None:
    model = HierarchicalVAE((3, 2), obs_dim=4, hidden=(6,))
    guide, x, above = Ladder(model, hidden=(6,)), torch.randn(5, 4), {"z_2": torch.randn(5, 2)}
    before = guide.layer_posterior("z_1", above, x).mean
    with torch.no_grad():
        last_layer(model.priors["z_1"]).bias += 1
    assert ((guide.layer_posterior("z_1", above, x).mean - before) > 0.1).all()
    owned = {id(parameter) for parameter in guide.parameters()}
    assert owned.isdisjoint(id(parameter) for parameter in model.parameters())


def test_gradients_of_the_guide_alone_reach_the_priors() -> None:
    model = HierarchicalVAE((3, 2), obs_dim=4, hidden=(6,))
    guide, x = Ladder(model, hidden=(6,)), torch.randn(5, 4)
    guide(x)["z_1"].sum().backward()
    for name, parameter in model.priors.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_shared_priors_are_trained_once() -> None:
    model = HierarchicalVAE((3, 2), obs_dim=4, hidden=(6,))
    guide, x = Ladder(model, hidden=(6,)), torch.randn(5, 4)
    with pyro.get_param_store().scope():
        Trace_ELBO().loss(model, guide, x)
        stored = [id(p) for _, p in pyro.get_param_store().named_parameters()]
    assert len(stored) == len(set(stored))
    assert len(stored) == len([*model.parameters(), *guide.parameters()])


def test_features_climb_from_the_bottom() -> None:
    model = HierarchicalVAE((3, 2, 2), obs_dim=4, hidden=(6,))
    guide = Ladder(model, hidden=(6,))
    found = guide.features(torch.randn(5, 4))
    assert list(found) == ["z_1", "z_2", "z_3"]
    assert_close(guide.rungs["z_2"](found["z_1"]), found["z_2"])
    assert guide.top_down
    assert list(guide.rate_weights) == ["z_3", "z_2", "z_1"]


def test_the_ladder_holds_the_posterior_of_a_linear_bottom_layer_of_one_dimension() -> None:
    """p(z_1 | z_2, x) is the prior times a Gaussian in x, whatever z_2 is."""
    model = HierarchicalLinearGaussian((1, 1), obs_dim=3).double()
    guide = Ladder(model, hidden=()).double()
    loading, noise = model.loadings[0].detach(), model.noise().detach().item()
    variance = noise**2 / (loading.mT @ loading).item()
    head = last_layer(guide.heads["z_1"])
    with torch.no_grad():
        head.weight.zero_()
        head.weight[0] = loading[:, 0] * variance / noise**2
        head.bias[0] = 0
        head.bias[1] = torch.log(torch.expm1(torch.tensor(variance**0.5 - 1e-4))).double()
    x, above = model(size=6).detach(), {"z_2": torch.randn(6, 1).double()}
    found, best = guide.layer_posterior("z_1", above, x), model.optimal_layer("z_1", above, x, {})
    assert_close(found.mean, best.mean, rtol=1e-5, atol=1e-6)
    assert_close(found.variance, best.variance, rtol=1e-5, atol=1e-6)


def test_a_categorical_top_adds_up_logits() -> None:
    model = HierarchicalVAE((3, 4), obs_dim=4, top="categorical")
    guide, x = Ladder(model), torch.randn(5, 4)
    q = guide.layer_posterior("z_2", {}, x)
    assert isinstance(q, StraightThroughOneHot)
    told = guide.heads["z_2"](guide.features(x)["z_2"])
    assert_close(q.probs, told.probs)  # the prior is uniform


def test_unknown_layers_are_refused() -> None:
    guide = Ladder(HierarchicalVAE((3, 2), 4))
    with pytest.raises(UnknownNameError, match="Unknown layer 'z_0'"):
        guide.layer_posterior("z_0", {}, torch.zeros(1, 4))
    with pytest.raises(UnknownNameError, match="rate_weights 'z_3'"):
        Ladder(HierarchicalVAE((3, 2), 4), rate_weights={"z_3": Tensor([1.0])})


def test_layers_of_zeros_and_ones_have_no_precisions_to_add() -> None:
    model = SigmoidBeliefNetwork((3, 2), obs_dim=4)
    assert not serves(Ladder, model)
    with pytest.raises(
        IncompatiblePairError, match=r"precisions of Gaussian .* BottomUp"
    ) as found:
        Ladder(model)
    assert "'z_2' of SigmoidBeliefNetwork is of zeros and ones" in str(found.value)
