"""Chains and resampling draw from p*, not from p nor from a tempered law."""

from __future__ import annotations

import math

import pytest
import torch

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import DataError, IncompatiblePairError
from pyrolvm.core.copying import copied
from pyrolvm.core.errors import SettingError
from pyrolvm.inference.pstar.replicas import TwoReplicaSampler
from tests.inference.pstar.nets import random_pair


def frequencies(x, obs_dim=4):
    """Share of each state, in the order of ``nets.states``."""
    codes = (x * 2.0 ** torch.arange(obs_dim - 1, -1, -1)).sum(-1).long()
    return torch.bincount(codes, minlength=2**obs_dim).double() / len(x)


def total_variation(a, b):
    return (a - b).abs().sum().item() / 2


def coupled(net):
    """The pair of a net in single precision, in which chains take half the time."""
    model, guide = copied(net.model, net.guide)
    return lvm.PStar(model.float(), guide.float(), progress=False)


@pytest.fixture
def pstar(net):
    return coupled(net)


@pytest.mark.parametrize("num_candidates", [2, 8])
def test_chains_follow_pstar(net, pstar, num_candidates):
    drawn = pstar.sample(40_000, sweeps=25, num_candidates=num_candidates)
    assert drawn.shape == (40_000, 4)
    found = frequencies(drawn)
    assert total_variation(found, net.pstar) < 0.015
    assert total_variation(found, net.log_evidence.exp()) > 0.05


def test_a_deep_chain_follows_pstar(deep_net):
    found = frequencies(coupled(deep_net).sample(40_000, sweeps=25), obs_dim=3)
    assert total_variation(found, deep_net.pstar) < 0.012
    assert total_variation(found, deep_net.log_evidence.exp()) > 0.03


def test_latents_follow_the_coupled_joint_law(net):
    """(x, h) ~ p*(x, h) for either replica, so that E[h] is known."""
    sampler = TwoReplicaSampler(net.model, net.guide, 4)
    with torch.no_grad():
        state = sampler.ancestral(20_000)
        for _ in range(15):
            sampler.sweep(state)
    weight = net.pstar[:, None] * torch.softmax((net.log_joint + net.log_guide) / 2, 1)
    for site, layer in zip(sampler.sites, state.layers, strict=True):
        wanted = weight.sum(0) @ net.latents[site]
        assert ((layer.mean(1) - wanted).abs() < 0.02).all()


def test_pstar_is_left_invariant_by_one_sweep(net):
    """Started in π itself, one sweep stays there whatever the number of candidates."""
    size = 60_000
    x_index = torch.multinomial(net.pstar, size, replacement=True)
    posterior = torch.softmax((net.log_joint + net.log_guide) / 2, 1)
    both = torch.multinomial(posterior[x_index], 2, replacement=True).mT
    sampler = TwoReplicaSampler(net.model, net.guide, 2)
    state = sampler.inferred(net.x[x_index])
    state.layers = [net.latents[site][both] for site in sampler.sites]
    with torch.no_grad():
        sampler.sweep(state)
    assert total_variation(frequencies(state.x), net.pstar) < 0.012


def test_without_the_factor_for_x_the_law_is_another(net, pstar, monkeypatch):
    """Layer by layer with one replica and x from p alone, chains miss p* by far."""

    def update_x(self, state, free):
        logits = self._model.layer_logits("x", state.layers[0][0])
        state.x = torch.bernoulli(logits.sigmoid())

    monkeypatch.setattr(TwoReplicaSampler, "_update_x", update_x)
    found = frequencies(pstar.sample(10_000, sweeps=20))
    assert total_variation(found, net.pstar) > 0.04


def test_importance_draws_follow_pstar(net, pstar):
    found = frequencies(pstar.sample_by_importance(20_000, oversample=10, num_inner=5))
    assert total_variation(found, net.pstar) < 0.03
    assert total_variation(found, net.log_evidence.exp()) > 0.05


@pytest.mark.parametrize("kept", [(True, True, False, False), (False, True, False, True)])
def test_inpainting_follows_the_conditional(net, pstar, kept):
    mask = torch.tensor(kept)
    given = torch.tensor([[1.0, 1.0, math.nan, math.nan], [1.0, 0.0, 0.0, 1.0]])
    given = torch.where(mask, torch.nan_to_num(given), torch.full_like(given, math.nan))
    drawn = pstar.inpaint(given, mask, num_chains=10_000, sweeps=20)
    assert drawn.shape == (10_000, 2, 4)
    for row in range(2):
        same = (net.x[:, mask] == given[row, mask]).all(1)
        wanted = torch.where(same, net.pstar, 0.0)
        found = frequencies(drawn[:, row])
        assert total_variation(found, wanted / wanted.sum()) < 0.02
        assert (drawn[:, row, mask] == given[row, mask]).all()


def test_every_row_may_have_a_mask_of_its_own(net, pstar):
    x = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, True, True], [False, True, True, True]])
    drawn = pstar.inpaint(x, mask, num_chains=200, sweeps=5)
    assert (drawn[:, 0] == x[0]).all()
    assert (drawn[:, 1, 1:] == x[1, 1:]).all()
    assert 0 < drawn[:, 1, 0].mean() < 1


def test_fewer_chains_give_several_draws(net, pstar):
    drawn = pstar.sample(20_001, sweeps=20, chains=4000, thinning=5)
    assert drawn.shape == (20_001, 4)
    assert total_variation(frequencies(drawn), net.pstar) < 0.03


def test_blocks_give_all_chains(net, pstar, monkeypatch):
    monkeypatch.setattr(TwoReplicaSampler, "block_size", lambda self: 1500)
    assert total_variation(frequencies(pstar.sample(5000, sweeps=10)), net.pstar) < 0.04


def test_the_same_seed_gives_the_same_draws(pstar):
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append((pstar.sample(20, sweeps=3), pstar.sample_by_importance(20)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_chains_run_in_the_type_of_the_model():
    model = models.SigmoidBeliefNetwork(layers=(3, 2), obs_dim=4)
    pstar = lvm.PStar(model, guides.HelmholtzCoupled(model))
    assert pstar.sample(3, sweeps=2).dtype == torch.float32
    assert not pstar.sample(3, sweeps=2).requires_grad
    assert pstar.inpaint(torch.zeros(2, 4), torch.zeros(4).bool(), sweeps=2).shape == (10, 2, 4)
    assert next(model.parameters()).dtype == torch.float32


class TestRefusals:
    def test_a_guide_that_is_no_chain(self):
        model, _ = random_pair((3, 2), 4)
        pstar = lvm.PStar(model, guides.Layerwise(model))
        with pytest.raises(IncompatiblePairError, match=r"Layerwise.*sample_by_importance"):
            pstar.sample(3)

    def test_a_model_without_binary_layers(self):
        model = models.VAE(2, 4)
        pstar = lvm.PStar(model, guides.Amortized(model))
        with pytest.raises(IncompatiblePairError, match=r"BinaryLayers, which VAE"):
            pstar.inpaint(torch.zeros(2, 4), torch.ones(4).bool())

    @pytest.mark.parametrize(
        ("x", "mask", "sentence"),
        [
            (torch.zeros(2, 5), torch.ones(4).bool(), r"\(N, 4\), but got \(2, 5\)"),
            (torch.zeros(2, 4), torch.ones(3, 4).bool(), r"\(2, 4\) or \(4,\)"),
            (torch.zeros(2, 4), torch.ones(4), "mask of booleans"),
            (torch.full((2, 4), 0.5), torch.ones(4).bool(), "row 0, place 0 is 0.5"),
            (torch.full((2, 4), math.nan), torch.ones(4).bool(), "Hide it"),
        ],
    )
    def test_bad_masks_and_data(self, pstar, x, mask, sentence):
        with pytest.raises(DataError, match=sentence):
            pstar.inpaint(x, mask)

    def test_bad_numbers(self, pstar):
        for wrong in ({"num_candidates": 1}, {"sweeps": 0}, {"chains": 0}):
            with pytest.raises(SettingError):
                pstar.sample(3, **wrong)
