"""Figures of a trained pair: estimates for wide layers against sums over narrow ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pyrolvm import guides, models
from pyrolvm.inference.enumeration import layer_sums
from pyrolvm.inference.helmholtz import SIZES
from pyrolvm.inference.helmholtz.measuring import measured

IDLE = 17
"""Units that nothing depends on, so that the layer is too wide for sums."""
SETTINGS = dataclasses.replace(SIZES["smoke"], evaluation_particles=4000, z_samples=20_000)


@pytest.fixture(scope="module")
def narrow():
    torch.manual_seed(1)
    model = models.SigmoidBeliefNetwork(layers=(3, 2), obs_dim=6)
    guide = guides.HelmholtzCoupled(model)
    with torch.no_grad():
        for parameter in (*model.parameters(), *guide.parameters()):
            parameter.uniform_(-0.8, 0.8)
    return model, guide, model(size=60).detach()


@pytest.fixture(scope="module")
def wide(narrow):
    """The same law of x and the same overlap, with idle units beside those of z_1."""
    model = models.SigmoidBeliefNetwork(layers=(3 + IDLE, 2), obs_dim=6)
    guide = guides.HelmholtzCoupled(model)
    with torch.no_grad():
        for new, old in zip((model, guide), narrow[:2], strict=True):
            given = old.state_dict()
            for name, tensor in new.state_dict().items():
                tensor.zero_()
                tensor[tuple(map(slice, given[name].shape))] = given[name]
    return model, guide, narrow[2]


@pytest.fixture(scope="module")
def estimated(wide):
    return measured(*wide, SETTINGS)


def test_wide_layers_are_estimated_and_narrow_ones_summed(narrow, estimated):
    assert estimated.scores["method"] == "estimated"
    assert estimated.scores["z_method"] == "sampled"
    summed = measured(*narrow, SETTINGS).scores
    assert summed["method"] == summed["z_method"] == "exact"
    assert summed["log_z_se"] == 0


def test_estimates_reach_the_sums(narrow, estimated):
    model, guide, x = narrow
    exact = layer_sums(model, guide)
    rows, scores = estimated.rows, estimated.scores
    assert (rows["log_evidence"] - exact.log_evidence(x)).abs().max() < 0.1
    assert (rows["log_bound"] - exact.log_bound(x)).abs().max() < 0.1
    assert (rows["overlap"] - exact.overlap(x)).abs().max() < 0.05
    assert abs(scores["nll"] + exact.log_evidence(x).mean()) < 0.02
    assert abs(scores["bc2"] - exact.overlap(x).mean()) < 0.01
    assert exact.overlap(x).mean() < 0.9
    assert abs(scores["log_z"] + exact.log_z2) < 5 * scores["log_z_se"]


def test_errors_are_over_rows_and_include_that_of_z(estimated):
    rows, scores = estimated.rows, estimated.scores
    error = rows["log_evidence"].std().item() / 60**0.5
    assert scores["nll_se"] == pytest.approx(error)
    assert scores["pstar_nll"] == pytest.approx(scores["coupled_nll"] - scores["log_z"])
    squares = scores["coupled_nll_se"] ** 2 + scores["log_z_se"] ** 2
    assert scores["pstar_nll_se"] ** 2 == pytest.approx(squares)


def test_both_effective_shares_are_measured(estimated):
    scores = estimated.scores
    assert 0 < scores["ess"] < scores["root_ess"] < 1
    assert scores["bc2"] == scores["root_ess"]  # one figure, from the same draws
    assert scores["rounding"] < 1e-3
