"""LinearGaussian against dense algebra and quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from pyrolvm import exact, guides
from pyrolvm.core import DataError, evaluating
from pyrolvm.models import LinearGaussian
from pyrolvm.testing import ModelContract


class TestLinearGaussian(ModelContract):
    def make(self):
        return LinearGaussian(latent_dim=2, obs_dim=5, isotropic=False)

    def test_the_evidence_is_a_dense_gaussian(self):
        model, x = self.drawn()
        layer = model.decoder[0]
        covariance = layer.weight @ layer.weight.T + torch.diag(model.noise_scale**2)
        dense = torch.distributions.MultivariateNormal(layer.bias, covariance)
        assert_close(model.log_evidence(x), dense.log_prob(x), rtol=1e-12, atol=1e-12)

    def test_the_posterior_takes_data_of_any_type(self):
        model, x = self.make(), torch.ones(3, 5)
        for dtype in (torch.float64, torch.int64):
            assert_close(model.posterior(x.to(dtype)).mean, model.posterior(x).mean)

    def test_the_posterior_conditions_the_joint_gaussian(self):
        model, x = self.drawn()
        layer = model.decoder[0]
        across = layer.weight.T
        covariance = layer.weight @ across + torch.diag(model.noise_scale**2)
        gain = across @ torch.linalg.inv(covariance)
        posterior = model.posterior(x)
        assert_close(posterior.mean, (x - layer.bias) @ gain.T, rtol=1e-10, atol=1e-12)
        within = torch.eye(2).double() - gain @ layer.weight
        assert_close(posterior.covariance_matrix[0], within, rtol=1e-10, atol=1e-12)

    def test_the_evidence_is_the_integral_of_the_joint(self):
        model = LinearGaussian(1, 3, noise_scale=0.4).double()
        x = model(size=4).detach().double()
        z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
        noise = torch.distributions.Normal(model.decoder(z)[:, None], model.noise_scale)
        prior = torch.distributions.Normal(torch.zeros(1).double(), 1.0).log_prob(z)
        joint = noise.log_prob(x).sum(-1) + prior
        integral = joint.logsumexp(0) + math.log(24 / 20_000)
        assert_close(model.log_evidence(x), integral, rtol=1e-9, atol=1e-9)

    def test_the_affine_stack_reduces_to_the_closed_form(self):
        model, x = self.drawn()
        solved = exact.solve(model.affine_stack, x)
        assert_close(solved.log_evidence, model.log_evidence(x), rtol=1e-10, atol=1e-10)
        assert_close(solved.mean, model.posterior(x).mean, rtol=1e-8, atol=1e-9)

    def test_the_evidence_is_double_whatever_the_models_type(self):
        model = self.make()
        x = model(size=6).detach()
        found = model.log_evidence(x)
        with evaluating(model):
            wanted = model.log_evidence(x.double())
        assert found.dtype == torch.float64
        assert_close(found, wanted, rtol=1e-6, atol=1e-6)

    def test_gradients_of_the_evidence_reach_every_parameter(self):
        model = self.make()
        model.log_evidence(model(size=6).detach()).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    @pytest.mark.parametrize(("isotropic", "size"), [(True, 1), (False, 5)])
    def test_noise_is_shared_or_not(self, isotropic, size):
        model = LinearGaussian(2, 5, isotropic=isotropic)
        assert model.noise.raw.shape == (size,)
        assert model.noise_scale.shape == (5,)

    def test_the_wrong_width_is_refused(self):
        with pytest.raises(DataError, match=r"\(N, 5\), but got \(3, 4\)"):
            self.make().posterior(torch.zeros(3, 4))

    def test_sizes_are_positive(self):
        with pytest.raises(ValueError, match="positive whole numbers"):
            LinearGaussian(0, 5)

    def test_exact_serves_it(self):
        model, x = self.drawn()
        assert_close(guides.Exact(model).log_evidence(x), model.log_evidence(x))

    def drawn(self):
        model = self.make().double()
        with torch.no_grad():
            model.noise.raw.add_(torch.randn(5) * 0.3)
        return model, model(size=6).detach().double()
