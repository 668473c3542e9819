"""What a measured guide keeps."""

from __future__ import annotations

import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import Data
from pyrolvm.inference import Oracles, OracleSettings
from pyrolvm.inference.measuring import Training, measure


def test_kept_draws_do_not_hold_the_others_in_memory(monkeypatch):
    monkeypatch.setattr("pyrolvm.inference.measuring.kept_draws", lambda *sizes: 8)
    model = models.LinearGaussian(2, 4)
    settings = OracleSettings(0, 50, 0, None, progress=False)
    oracles = Oracles({"q": (model, guides.Exact(model))}, Data.of(torch.randn(5, 4)), settings)
    found, _ = measure("q", Training(torch.empty(0), 0.0), oracles)
    kept = [found.log_weights, *found.posterior.values(), *found.log_likelihood.values()]
    assert [len(each) for each in kept] == [8, 8, 8]
    assert all(each.untyped_storage().nbytes() == 8 * each.numel() for each in kept)


@pytest.mark.parametrize(
    "model", [models.LinearGaussian(1, 2), models.VAE(1, 2, activation="tanh")]
)
def test_a_guide_over_the_whole_data_set_meets_the_evidence_of_all_data(model):
    x = torch.randn(3, 2)
    found = lvm.diagnose(model, AutoMultivariateNormal(model), x).frame.iloc[0]
    each = lvm.diagnose(model, guides.Amortized(model), x).frame.iloc[0]
    assert found.log_evidence == pytest.approx(3 * each.log_evidence, abs=1e-6)
    assert found.gap > 0
