"""Transfer matrices against plain sums over every joint state."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import DataError, EvidenceError, IncompatiblePairError, log_densities
from pyrolvm.diagnostics import bhattacharyya_squared
from pyrolvm.exact.errors import ObservationError
from pyrolvm.inference import exact_evidence
from pyrolvm.inference.enumeration import can_enumerate, layer_sums
from tests.inference.pstar.nets import enumerated, random_pair, states

NETS = [((3, 2), 4), ((3, 2, 2), 3), ((4,), 3), ((1, 3, 1, 2), 2)]


@pytest.fixture(params=NETS, ids=str)
def net(request):
    torch.manual_seed(5)
    return enumerated(*random_pair(*request.param))


def test_the_laws_sum_to_one(net):
    assert net.log_evidence.logsumexp(0).item() == pytest.approx(0.0, abs=1e-12)
    assert_close(net.log_guide.logsumexp(1), torch.zeros(len(net.x)).double())
    sums = layer_sums(net.model, net.guide)
    assert sums.log_evidence(net.x).logsumexp(0).item() == pytest.approx(0.0, abs=1e-12)
    total = (sums.log_bound(net.x) - sums.log_z2).logsumexp(0)
    assert total.item() == pytest.approx(0.0, abs=1e-12)


def test_every_sum_is_that_of_all_joint_states(net):
    sums = layer_sums(net.model, net.guide)
    assert_close(sums.log_evidence(net.x), net.log_evidence)
    assert_close(sums.log_bound(net.x), net.log_bound)
    assert sums.log_z2 == pytest.approx(net.log_z2.item(), abs=1e-12)
    roots = (net.log_joint - net.log_evidence[:, None] + net.log_guide) / 2
    assert_close(sums.overlap(net.x), (2 * roots.logsumexp(1)).exp())


def test_z_is_the_overlap_of_both_joint_laws(net):
    """Z = Σ √(p(x, h) p*(x) q(h | x)), and Z² = E_p BC²."""
    log_pstar = net.log_bound - net.log_z2
    log_z = ((net.log_joint + net.log_guide + log_pstar[:, None]) / 2).logsumexp((0, 1))
    sums = layer_sums(net.model, net.guide)
    assert 2 * log_z.item() == pytest.approx(sums.log_z2, abs=1e-12)
    mean = (net.log_evidence.exp() * sums.overlap(net.x)).sum().log()
    assert mean.item() == pytest.approx(sums.log_z2, abs=1e-12)


def test_the_bounds_are_in_order(net):
    sums = layer_sums(net.model, net.guide)
    elbo = (net.log_guide.exp() * (net.log_joint - net.log_guide)).sum(1)
    bound, log_pstar = sums.log_bound(net.x), sums.log_bound(net.x) - sums.log_z2
    assert (elbo < bound).all()
    assert (bound < net.log_evidence).all()
    assert (bound < log_pstar).all()
    assert (log_pstar.exp() - net.log_evidence.exp()).abs().max() > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        guides.BottomUp,
        guides.Layerwise,
        guides.HelmholtzCoupled,
        partial(guides.Amortized, family="bernoulli"),
    ],
)
def test_any_guide_over_the_layers_is_summed_over_joint_states(make):
    model, _ = random_pair((3, 2), 4)
    guide = make(model)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.uniform_(-1, 1)
    x = states(4)
    sums = layer_sums(model, guide)
    weights = log_densities(model, guide, x, num_particles=20_000).log_weights
    value, error = bhattacharyya_squared(weights, sums.log_evidence(x))
    assert ((value - sums.overlap(x)).abs() < 5 * error).all()
    assert (error < 0.05).all()
    assert_close(sums.log_evidence(x), layer_sums(model).log_evidence(x))
    assert sums.log_bound(x).logsumexp(0).item() == pytest.approx(sums.log_z2, abs=1e-10)


def test_a_chain_and_its_joint_states_agree(net, monkeypatch):
    chain = layer_sums(net.model, net.guide)
    monkeypatch.setattr(
        "pyrolvm.inference.enumeration.offers", lambda program, kind: "Layers" in kind.__name__
    )
    joint = layer_sums(net.model, net.guide)
    assert_close(joint.log_bound(net.x), chain.log_bound(net.x))
    assert joint.log_z2 == pytest.approx(chain.log_z2, abs=1e-12)


def test_rows_and_states_in_parts_give_the_same(net, monkeypatch):
    whole = layer_sums(net.model, net.guide)
    monkeypatch.setattr("pyrolvm.exact.binary.layer_sums.CHUNK_CELLS", 8)
    monkeypatch.setattr("pyrolvm.exact.binary.messages.CHUNK_CELLS", 8)
    monkeypatch.setattr("pyrolvm.inference.enumeration._JOINT_ELEMENTS", 8)
    parts = layer_sums(net.model, net.guide)
    assert_close(parts.log_bound(net.x), whole.log_bound(net.x))
    assert parts.log_z2 == pytest.approx(whole.log_z2, abs=1e-12)


def test_an_extreme_net_stays_finite():
    model, guide = random_pair((3, 2), 4, reach=200.0)
    sums = layer_sums(model, guide)
    assert sums.log_evidence(states(4)).isfinite().all()
    assert sums.log_evidence(states(4)).logsumexp(0).item() == pytest.approx(0, abs=1e-9)
    assert sums.log_z2 < 0


def test_sums_keep_the_parameters_of_their_making(net):
    sums = layer_sums(net.model, net.guide)
    before = [parameter.detach().clone() for parameter in net.guide.parameters()]
    with torch.no_grad():
        for parameter in net.guide.parameters():
            parameter.add_(1.0)
    assert_close(sums.log_bound(net.x), net.log_bound)
    assert (layer_sums(net.model, net.guide).log_bound(net.x) - net.log_bound).abs().max() > 1e-3
    with torch.no_grad():
        for parameter, value in zip(net.guide.parameters(), before, strict=True):
            parameter.copy_(value)


class TestEvidence:
    def test_a_comparison_knows_it(self, net):
        found = exact_evidence(net.model.float(), net.x.float())
        assert found.method == "enumerated"
        assert not found.is_bound
        assert_close(found.value, net.log_evidence, rtol=1e-5, atol=1e-5)
        assert (found.standard_error == 0).all()
        net.model.double()

    def test_its_gradient_is_that_of_the_posterior_mean(self, net):
        """∇ log p(x) = E_{p(h|x)} ∇ log p(x, h); for the top's log odds that is h − sigmoid."""
        lvm.log_evidence(net.model, net.x).value.sum().backward()
        posterior = (net.log_joint - net.log_evidence[:, None]).exp()
        top = net.latents[net.model.latent_sites[0]]
        wanted = (posterior @ top - net.model.top_logits.sigmoid()).sum(0)
        assert_close(net.model.top_logits.grad, wanted.detach())

    def test_wide_layers_fall_to_the_bound(self):
        model = models.SigmoidBeliefNetwork(layers=(30, 20), obs_dim=6)
        assert not can_enumerate(model)
        assert exact_evidence(model, torch.zeros(2, 6)) is None
        with pytest.raises(EvidenceError, match=r"layers of \(30, 20\) units, too many"):
            lvm.log_evidence(model, torch.zeros(2, 6))

    def test_bad_data_are_refused(self, net):
        with pytest.raises(DataError, match="zeros and ones"):
            lvm.log_evidence(net.model, net.x + 0.5)


class TestRefusals:
    def test_a_model_without_binary_layers(self):
        with pytest.raises(IncompatiblePairError, match="BinaryLayers"):
            layer_sums(models.VAE(2, 4))

    def test_wide_layers(self):
        model = models.SigmoidBeliefNetwork(layers=(20, 12), obs_dim=6)
        with pytest.raises(EvidenceError, match=r"\(20, 12\) units over 6"):
            layer_sums(model)

    def test_too_many_joint_states(self):
        model = models.SigmoidBeliefNetwork(layers=(10, 7), obs_dim=6)
        assert can_enumerate(model, guides.HelmholtzCoupled(model))
        with pytest.raises(EvidenceError, match=r"2\^17 of them"):
            layer_sums(model, guides.BottomUp(model))

    def test_a_plain_guide(self, net):
        with pytest.raises(IncompatiblePairError, match="log q at given latents"):
            layer_sums(net.model, lambda x: None)

    def test_sums_of_a_model_alone_have_no_bound(self, net):
        with pytest.raises(EvidenceError, match="layer_sums"):
            layer_sums(net.model).log_bound(net.x)

    def test_x_with_too_many_states(self):
        model = models.SigmoidBeliefNetwork(layers=(3, 2), obs_dim=40)
        sums = layer_sums(model, guides.HelmholtzCoupled(model))
        assert not sums.can_sum_observations
        with pytest.raises(EvidenceError, match="sampled"):
            print(sums.log_z2)

    @pytest.mark.parametrize(
        ("x", "sentence"),
        [
            (torch.zeros(2, 9), r"\(N, \d\), at least one, but got \(2, 9\)"),
            (torch.zeros(0, 4), "at least one"),
        ],
    )
    def test_bad_shapes(self, net, x, sentence):
        with pytest.raises(ObservationError, match=sentence):
            layer_sums(net.model).log_evidence(x)

    def test_other_values(self, net):
        with pytest.raises(ObservationError, match="zeros and ones"):
            layer_sums(net.model).log_evidence(net.x + 0.5)
