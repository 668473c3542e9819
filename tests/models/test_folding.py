"""Folding against quadrature over z and over u."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.special import ndtr
from torch.testing import assert_close

from pyrolvm.core import evaluating, log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import Exact
from pyrolvm.models import Folding
from pyrolvm.testing import ModelContract

GRID = torch.linspace(-9, 9, 400_001, dtype=torch.float64)
CELL = 18 / 400_000


class TestFolding(ModelContract):
    def make(self):
        return Folding(num_folds=2)

    @pytest.mark.parametrize("num_folds", [0, 1, 3])
    def test_it_is_the_tent_map_again_and_again(self, num_folds):
        z = torch.randn(100, 1).double()
        u = ndtr(z)
        for _ in range(num_folds):
            u = 1 - (2 * u - 1).abs()
        assert_close(Folding(num_folds).generate(z), u, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("num_folds", [0, 1, 3])
    @pytest.mark.parametrize("noise_scale", [0.03, 0.5])
    def test_the_evidence_is_the_integral_of_the_joint(self, num_folds, noise_scale):
        model = Folding(num_folds, noise_scale).double()
        x = torch.tensor([[-0.3], [0.0], [0.4], [1.02], [1.3]], dtype=torch.float64)
        with evaluating(model):
            likelihood = model.likelihood(GRID[:, None]).log_prob(x[:, None])
            joint = likelihood + model.prior().log_prob(GRID[:, None])
        integral = joint.logsumexp(-1) + math.log(CELL)
        assert_close(model.log_evidence(x), integral, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("noise_scale", [0.01, 0.03, 0.5])
    def test_the_evidence_integrates_to_one(self, noise_scale):
        x = torch.linspace(-5, 6, 100_001, dtype=torch.float64)[:, None]
        density = Folding(2, noise_scale).log_evidence(x).exp()
        assert density.sum().item() * 11 / 100_000 == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("num_folds", [0, 2])
    def test_the_posterior_integrates_to_one(self, num_folds):
        model = Folding(num_folds, 0.1).double()
        x = torch.tensor([[-0.1], [0.2], [0.9], [1.1]], dtype=torch.float64)
        density = model.posterior(x).log_prob(GRID[:, None, None]).exp()
        assert_close(density.sum(0) * CELL, torch.ones(4).double(), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("x", [-0.2, 0.03, 0.5, 1.0])
    def test_draws_follow_the_density(self, x):
        posterior = Folding(2, 0.1).double().posterior(torch.tensor([[x]]).double())
        drawn = posterior.sample((20_000,)).flatten().sort().values
        cumulated = posterior.log_prob(GRID[:, None, None]).exp().flatten().cumsum(0) * CELL
        at_draws = cumulated[((drawn + 9) / CELL).long()]
        distance = (at_draws - (torch.arange(20_000) + 0.5) / 20_000).abs().max()
        assert distance < 1.95 / math.sqrt(20_000)  # Kolmogorov-Smirnov at 0.1 %

    def test_every_draw_of_the_posterior_weighs_the_evidence(self):
        model = self.make().double()
        x = model(size=6)
        found = log_densities(model, Exact(model), x, num_particles=50).log_weights
        assert_close(found, model.log_evidence(x).expand(50, 6), rtol=0, atol=1e-9)

    @pytest.mark.parametrize("num_folds", [0, 1, 3])
    def test_every_piece_has_its_preimage(self, num_folds):
        model = Folding(num_folds)
        t = torch.rand(50, 1).double()
        z = model.preimages(t)
        assert z.shape == (50, model.num_pieces)
        assert (z.diff(dim=-1) > 0).all()
        assert_close(model.generate(z), t.expand_as(z), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("covered", [1, 2, 4])
    def test_modes_that_are_left_out_cost_their_share(self, covered):
        model = Folding(2, noise_scale=0.01).double()
        x = torch.tensor([[0.4]], dtype=torch.float64)
        modes = model.preimages(x)[0, :covered]
        widths = 0.01 / (4 * Normal(0.0, 1.0).log_prob(modes).exp())
        weights = Categorical(torch.ones(covered).double())
        q = MixtureSameFamily(weights, Normal(modes, widths)).log_prob(GRID)
        p = model.posterior(x).log_prob(GRID[:, None, None]).flatten()
        divergence = (torch.where(q > -700, q.exp() * (q - p), 0.0)).sum() * CELL
        assert divergence.item() == pytest.approx(math.log(4 / covered), abs=1e-2)

    def test_draws_are_finite_for_data_that_it_cannot_have_made(self):
        model = self.make()
        x = torch.tensor([[-3.0], [0.0], [1.0], [40.0]])
        assert model.posterior(x).sample((1000,)).isfinite().all()
        assert model.log_evidence(x).isfinite().all()

    def test_folds_are_counted_from_zero(self):
        with pytest.raises(SettingError, match="num_folds should be at least 0"):
            Folding(num_folds=-1)
