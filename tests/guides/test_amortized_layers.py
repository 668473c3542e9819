"""The Bernoulli family under layers of zeros and ones: one encoder for all units of all layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm.core import IncompatiblePairError, log_densities, serves
from pyrolvm.families import Bernoulli, make_family
from pyrolvm.guides import Amortized, BottomUp, Layerwise, PerDatum, SemiAmortized, SignGuide
from pyrolvm.models import VAE, HierarchicalVAE, LinearGaussian, SigmoidBeliefNetwork
from pyrolvm.objectives import LeaveOneOutELBO
from pyrolvm.testing import GuideContract


class TestOneLayer(GuideContract):
    def make_model(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=3, obs_dim=4)

    def make(self, model: Any) -> Amortized:
        return Amortized(model, family="bernoulli", hidden=(6,))


class TestThreeLayers(TestOneLayer):
    def make_model(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=(4, 3, 2), obs_dim=5)


class TestPerDatumLayers(TestThreeLayers):
    size = 4

    def make_data(self, model: Any) -> Tensor:
        return torch.eye(4, 5)  # rows that differ: equal ones share their parameters

    def make(self, model: Any) -> Any:
        return PerDatum(model, family="bernoulli").initialise(torch.eye(4, 5))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def network() -> SigmoidBeliefNetwork:
    return SigmoidBeliefNetwork((4, 3, 2), obs_dim=5)


def test_every_layer_reads_its_own_outputs_of_the_encoder() -> None:
    guide = Amortized(network(), family="bernoulli", hidden=(6,))
    x = torch.rand(7, 5).round()
    trace = poutine.trace(guide).get_trace(x)
    assert guide.parameters_for(x).shape == (7, 9)
    outputs = guide.parameters_for(x).split([2, 3, 4], -1)
    parts = dict(zip(("z_3", "z_2", "z_1"), outputs, strict=True))
    for site, part in parts.items():
        law: Any = trace.nodes[site]["fn"]
        assert_close(law.mean, part.sigmoid())
    assert [name for name in trace.nodes if name in parts] == ["z_3", "z_2", "z_1"]


def test_the_law_of_all_units_is_the_product_of_those_of_the_sites() -> None:
    model = network()
    guide = Amortized(model, family="bernoulli").double()
    x = torch.rand(7, 5).round().double()
    found = log_densities(model, guide, x, num_particles=3, keep_values=True)
    side_by_side = torch.cat([found.values[site] for site in model.latent_sites], -1)
    assert_close(guide.distribution(x).log_prob(side_by_side), found.log_guide)


@pytest.mark.parametrize("kind", ["amortized", "per-datum"])
def test_one_unit_reaches_the_exact_posterior(kind: str) -> None:
    """With one hidden unit the posterior is a member: log weights become constant."""
    model = SigmoidBeliefNetwork(1, obs_dim=3).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.uniform_(-2, 2)
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    if kind == "amortized":
        guide: Any = Amortized(model, family="bernoulli", hidden=())
    else:
        guide = PerDatum(model, family="bernoulli")
    both = torch.tensor([[[0.0]], [[1.0]]])
    prior = model.layer_prior("z_1", {}).log_prob(both)
    evidence = (prior + model.layer_likelihood({"z_1": both}).log_prob(x)).logsumexp(0)
    lvm.fit(model, guide, x, steps=400, learning_rate=0.1, loss=LeaveOneOutELBO(8), progress=False)
    gap = evidence - log_densities(model, guide, x, num_particles=500).log_weights.mean(0)
    assert gap.abs().max() < 5e-3


def test_two_causes_of_one_effect_leave_the_gap_of_the_best_mean_field() -> None:
    """Given x = 1 the two units explain each other away, which independent ones cannot say."""
    model = SigmoidBeliefNetwork(2, obs_dim=1).double().eval().requires_grad_(False)
    likelihood: Any = model.layers["x"]
    likelihood.network[0].weight.fill_(12.0)
    likelihood.network[0].bias.fill_(-6.0)
    model.top_logits.fill_(-3.0)
    x = torch.ones(1, 1).double()
    independent = Amortized(model, family="bernoulli", hidden=()).double()
    lvm.fit(
        model, independent, x, steps=300, learning_rate=0.1, loss=LeaveOneOutELBO(8),
        progress=False,
    )  # fmt: skip
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 2)
    joint = model.layer_prior("z_1", {}).log_prob(corners)
    joint = joint + model.layer_likelihood({"z_1": corners}).log_prob(x)
    on = torch.linspace(1e-4, 1 - 1e-4, 400).double()
    first, second = torch.cartesian_prod(on, on).unbind(-1)
    q = torch.stack([(1 - first) * (1 - second), (1 - first) * second, first * (1 - second)])
    q = torch.cat([q, (first * second)[None]])
    best = (q * (joint[:, None] - q.log())).sum(0).max()  # the best mean field, by a grid
    found = log_densities(model, independent, x, num_particles=4000).log_weights
    error = found.std() / 4000**0.5
    assert best < joint.logsumexp(0) - 0.3
    assert (found.mean() - best).abs() < 5 * error + 5e-3


def test_it_has_a_rate_for_each_layer() -> None:
    model = network()
    found = lvm.layer_rates(model, Amortized(model, family="bernoulli"), torch.eye(4, 5))
    assert set(found.rates) == {"z_3", "z_2", "z_1"}
    assert set(found.method.values()) == {"analytic"}
    assert all((rate >= 0).all() for rate in found.rates.values())


def test_an_oracle_starts_from_the_encoder() -> None:
    model = network()
    guide = Amortized(model, family="bernoulli", hidden=(6,))
    x = torch.eye(4, 5)
    oracle = PerDatum.from_amortized(guide, x)
    assert repr(oracle.family) == "Bernoulli(dim=9)"
    assert_close(oracle.distribution(x).mean, guide.distribution(x).mean)


def test_a_built_family_is_over_all_units() -> None:
    assert Amortized(network(), family=Bernoulli(9)).family.dim == 9
    with pytest.raises(ValueError, match="9 latent dimensions cannot use Bernoulli"):
        Amortized(network(), family=make_family("bernoulli", 4))


@pytest.mark.parametrize("kind", [Amortized, PerDatum])
@pytest.mark.parametrize("family", ["diagonal", "full", "mixture", "flow", "sign"])
def test_families_of_real_vectors_are_refused_under_binary_layers(kind: Any, family: str) -> None:
    with pytest.raises(IncompatiblePairError, match=r"zeros and ones. Use the family 'bernoulli'"):
        kind(network(), family=family)


@pytest.mark.parametrize("kind", [Amortized, PerDatum, SemiAmortized])
def test_the_family_of_binary_units_is_refused_under_a_real_vector(kind: Any) -> None:
    sentence = "'bernoulli' is over zeros and ones, .* LinearGaussian is of real .* 'diagonal'"
    with pytest.raises(IncompatiblePairError, match=sentence):
        kind(LinearGaussian(2, 4), family="bernoulli")


def test_what_they_say_to_serve_is_what_they_serve() -> None:
    binary, real, layered = network(), VAE(2, 4), HierarchicalVAE((3, 2), 4)
    assert [serves(Amortized, model) for model in (binary, real, layered)] == [True, True, False]
    assert [serves(PerDatum, model) for model in (binary, real, layered)] == [True, True, False]
    assert [serves(SignGuide, model) for model in (binary, real, layered)] == [False, True, False]
    for kind in (Amortized, PerDatum):
        with pytest.raises(IncompatiblePairError, match="only where all are of zeros and ones"):
            kind(layered)


@pytest.mark.parametrize("kind", [Layerwise, BottomUp])
def test_guides_of_layers_have_binary_units_of_any_depth(kind: Any) -> None:
    model = network()
    guide = kind(model, hidden=(6,))
    x = torch.rand(20, 5).round()
    assert set(guide.layer_values.values()) == {"binary"}
    assert all(set(value.unique().tolist()) <= {0.0, 1.0} for value in guide(x).values())
    before = log_densities(model, guide, x, num_particles=100).log_weights.mean()
    lvm.fit(
        model, guide, x, steps=150, learning_rate=0.02, loss=LeaveOneOutELBO(5), progress=False
    )
    assert log_densities(model, guide, x, num_particles=100).log_weights.mean() > before + 0.2
