"""InjectiveSlope against quadrature, and beside the folding that it controls."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core import evaluating, log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import Exact
from pyrolvm.models import Folding, InjectiveSlope
from pyrolvm.testing import ModelContract

GRID = torch.linspace(-9, 9, 400_001, dtype=torch.float64)
CELL = 18 / 400_000


class TestInjectiveSlope(ModelContract):
    def make(self):
        return InjectiveSlope(num_doublings=2)

    @pytest.mark.parametrize("num_doublings", [0, 1, 3])
    def test_the_evidence_is_the_integral_of_the_joint(self, num_doublings):
        model = InjectiveSlope(num_doublings, 0.1).double()
        end = model.interval[1]
        x = torch.tensor([[-end - 0.2], [-0.3], [0.0], [end]], dtype=torch.float64)
        with evaluating(model):
            likelihood = model.likelihood(GRID[:, None]).log_prob(x[:, None])
            joint = likelihood + model.prior().log_prob(GRID[:, None])
        integral = joint.logsumexp(-1) + math.log(CELL)
        assert_close(model.log_evidence(x), integral, rtol=1e-6, atol=1e-6)

    def test_the_posterior_integrates_to_one(self):
        model = self.make().double()
        x = torch.tensor([[-1.9], [0.2], [2.0]], dtype=torch.float64)
        density = model.posterior(x).log_prob(GRID[:, None, None]).exp()
        assert_close(density.sum(0) * CELL, torch.ones(3).double(), rtol=0, atol=1e-6)

    def test_every_draw_of_the_posterior_weighs_the_evidence(self):
        model = self.make().double()
        x = model(size=6)
        found = log_densities(model, Exact(model), x, num_particles=50).log_weights
        assert_close(found, model.log_evidence(x).expand(50, 6), rtol=0, atol=1e-9)

    def test_draws_generate_what_was_seen(self):
        model = self.make().double()
        x = torch.tensor([[-1.5], [0.2]], dtype=torch.float64)
        seen = model.generate(model.posterior(x).sample((20_000,)))
        assert ((seen.mean(0) - x).abs() < 5 * 0.03 / math.sqrt(20_000)).all()
        assert_close(seen.std(0), torch.full_like(x, 0.03), rtol=0.05, atol=0)

    @pytest.mark.parametrize("power", [0, 1, 3])
    def test_it_is_as_steep_as_the_folding_that_it_controls(self, power):
        z = torch.randn(100, 1, requires_grad=True)
        slopes = [
            torch.autograd.grad(model.generate(z).sum(), z)[0].abs()
            for model in (InjectiveSlope(power), Folding(power))
        ]
        assert_close(*slopes)

    def test_doublings_are_counted_from_zero(self):
        with pytest.raises(SettingError, match="num_doublings should be at least 0"):
            InjectiveSlope(num_doublings=-1)
