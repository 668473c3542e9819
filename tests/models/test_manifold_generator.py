"""ManifoldGenerator: an embedding whatever the weights, and what the noise does to it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm.core import evaluating
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import Amortized
from pyrolvm.inference.invertibility import invertibility
from pyrolvm.models import ManifoldGenerator
from pyrolvm.testing import ModelContract


class TestManifoldGenerator(ModelContract):
    def make(self):
        return ManifoldGenerator(latent_dim=2, obs_dim=5, hidden=6)

    @pytest.mark.parametrize("disturbance", [0.0, 3.0])
    @pytest.mark.parametrize(("latent_dim", "obs_dim"), [(1, 2), (2, 5), (3, 4)])
    def test_sampled_constants_obey_the_certificate(self, latent_dim, obs_dim, disturbance):
        model = ManifoldGenerator(latent_dim, obs_dim, contraction=0.6, bend=2.0, input_scale=2.0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(disturbance * torch.randn_like(parameter))
        found = invertibility(model)
        low, high = found.certified
        assert (low, high) == (pytest.approx(0.4), pytest.approx(math.hypot(1.6, 2.0)))
        assert low - 1e-6 < min(found.pairs[0], found.jacobian[0])
        assert max(found.pairs[1], found.jacobian[1]) < high + 1e-6
        assert not found.is_square

    def test_training_keeps_the_certificate(self):
        model = self.make()
        x = torch.randn(64, 5)
        lvm.fit(model, Amortized(model), x, steps=50, learning_rate=0.05, progress=False)
        assert invertibility(model).jacobian[0] > 0.5 - 1e-6

    def test_the_surface_is_curved(self):
        z = torch.randn(200, 1).double()
        model = ManifoldGenerator(1, 3, input_scale=2.0).double()
        points = model.generate(z).detach()
        assert torch.linalg.svdvals(points - points.mean(0))[1] > 0.5

    @pytest.mark.parametrize("noise_scale", [0.03, 0.003])
    def test_the_posterior_concentrates_as_the_noise_goes_to_zero(self, noise_scale):
        model = ManifoldGenerator(1, 3, noise_scale=noise_scale).double()
        truth = torch.tensor([[0.3]], dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(model.generate, truth).flatten()
        width = noise_scale / jacobian.norm()
        z = truth + width * torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
        with evaluating(model):
            x = model.generate(truth)
            joint = model.likelihood(z).log_prob(x) + model.prior().log_prob(z)
        weight = joint.softmax(0)
        mean = (weight * z[:, 0]).sum()
        variance = (weight * (z[:, 0] - mean) ** 2).sum()
        assert_close(variance.sqrt(), width, rtol=0.02, atol=0)
        assert (mean - truth).abs() < width

    @pytest.mark.parametrize("options", [{"obs_dim": 2}, {"contraction": 1.0}])
    def test_what_is_no_embedding_is_refused(self, options):
        with pytest.raises(SettingError, match="more observations than latents"):
            ManifoldGenerator(**{"latent_dim": 2, "obs_dim": 5, **options})
