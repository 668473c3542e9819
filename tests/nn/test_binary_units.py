"""Binary units: the draws follow the log odds, in every shape that programs ask for."""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import Bernoulli

from pyrolvm.nn.binary_units import BinaryUnits


def test_units_are_on_as_often_as_their_log_odds_say():
    logits = torch.linspace(-6, 6, 13, dtype=torch.float64)
    mean = BinaryUnits(logits=logits).sample((100_000,)).mean(0)
    truth = logits.sigmoid()
    assert ((mean - truth).abs() < 4.5 * (truth * (1 - truth) / 100_000).sqrt()).all()


def test_units_that_are_sure_never_turn():
    logits = torch.tensor([-1e4, 1e4])
    assert torch.equal(
        BinaryUnits(logits=logits).sample((1000,)).mean(0), torch.tensor([0.0, 1.0])
    )


def test_draws_carry_no_gradient_and_keep_the_type():
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    drawn = BinaryUnits(logits=logits).sample((2,))
    assert not drawn.requires_grad
    assert drawn.dtype == torch.float64
    assert ((drawn == 0) | (drawn == 1)).all()


def test_plates_expand_it_to_independent_draws():
    with pyro.plate("particles", 50, dim=-2), pyro.plate("data", 40):
        drawn = pyro.sample("z", BinaryUnits(logits=torch.zeros(3)).to_event(1))
    assert drawn.shape == (50, 40, 3)
    assert 0.4 < drawn.mean() < 0.6
    assert drawn.flatten(0, 1).unique(dim=0).shape == (8, 3)


def test_it_has_the_densities_of_pyros_own():
    logits, value = torch.randn(5), torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    assert torch.equal(
        BinaryUnits(logits=logits).log_prob(value), Bernoulli(logits=logits).log_prob(value)
    )
