"""Total variation: against closed forms, in standard errors, and with missed modes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from pyrolvm.core import DataError
from pyrolvm.diagnostics import total_variation


def test_two_normals_of_equal_width():
    torch.manual_seed(0)
    shift = torch.tensor([0.0, 0.3, 1.0, 4.0]).double()
    guide, posterior = Normal(torch.zeros(4).double(), 1.0), Normal(shift, 1.0)
    z = guide.sample((40_000,))
    evidence = torch.tensor([-3.0, 2.0, 0.0, 1.0]).double()
    weights = evidence + posterior.log_prob(z) - guide.log_prob(z)
    value, error = total_variation(weights, evidence)
    truth = torch.tensor([math.erf(s / (2 * math.sqrt(2))) for s in shift.tolist()])
    assert ((value - truth).abs() <= 5 * error + 1e-12).all()
    assert (error <= 0.5 / math.sqrt(len(z))).all()


def test_a_missed_mode_counts():
    value, _ = total_variation(torch.full((100, 1), math.log(0.25)), torch.zeros(1))
    assert value.item() == pytest.approx(0.75)


def test_weights_of_zero_are_lost_draws():
    assert total_variation(torch.full((10, 2), -torch.inf), torch.zeros(2))[0].tolist() == [1, 1]


def test_a_missing_evidence_is_refused():
    with pytest.raises(DataError, match="finite log evidence"):
        total_variation(torch.zeros(5, 2), torch.tensor([0.0, torch.nan]))
