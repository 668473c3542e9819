"""The encoder of x and u."""

from __future__ import annotations

import pytest
import torch

from pyrolvm.core import DataError
from pyrolvm.guides import ConditionalEncoder
from pyrolvm.models import AnchoredIVAE, EnvironmentPrior
from pyrolvm.testing import GuideContract

U = torch.tensor([0, 2, 1, 1, 2, 0])
LOC = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])


class TestConditionalEncoder(GuideContract):
    def make_model(self):
        return AnchoredIVAE(EnvironmentPrior(LOC, 1.0), obs_dim=4, hidden=(6,))

    def make(self, model):
        return ConditionalEncoder(model, family="full", hidden=(6,))

    def make_data(self, model):
        with torch.no_grad():
            return {"x": model(u=U), "u": U}


def test_it_reads_both_x_and_u():
    guide = ConditionalEncoder(AnchoredIVAE(EnvironmentPrior(LOC, 1.0), obs_dim=4))
    x = torch.randn(1, 4)
    in_each = guide.distribution(x.expand(3, 4), torch.arange(3)).mean
    assert torch.cdist(in_each, in_each)[0, 1:].min() > 1e-4
    assert not torch.allclose(guide.distribution(-x, torch.tensor([0])).mean, in_each[0])


def test_it_starts_near_the_standard_normal():
    guide = ConditionalEncoder(AnchoredIVAE(EnvironmentPrior(LOC, 1.0), obs_dim=4))
    q = guide.distribution(torch.randn(6, 4), U)
    assert q.mean.abs().max() < 0.3
    assert (q.stddev - 1).abs().max() < 0.3


def test_unknown_labels_are_refused():
    guide = ConditionalEncoder(AnchoredIVAE(EnvironmentPrior(LOC, 1.0), obs_dim=4))
    with pytest.raises(DataError, match="ConditionalEncoder knows the environments 0 to 2"):
        guide(torch.randn(6, 4), U - 1)
