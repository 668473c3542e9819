"""Derivatives of log densities, fixed noise, and transports of families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pyrolvm.amortization import (
    LocalElbo,
    LogJoint,
    balanced_noise,
    curvature,
    slope,
    typical_curvature,
    value_and_slope,
)
from pyrolvm.core.errors import SettingError
from pyrolvm.families import Sign, make_family
from pyrolvm.models import LinearGaussian, ResidualGenerator, SignPermutation


def test_curvature_of_a_linear_model_is_the_posterior_precision() -> None:
    model = LinearGaussian(latent_dim=2, obs_dim=3, noise_scale=0.5).double()
    x, z = torch.randn(5, 3).double(), torch.randn(7, 5, 2).double()
    found = curvature(LogJoint(model, x), z)
    truth = model.posterior(x).precision_matrix.expand(7, 5, 2, 2)
    torch.testing.assert_close(found, truth)
    typical = typical_curvature(model)
    assert typical.largest == pytest.approx(torch.linalg.eigvalsh(truth).max().item())
    covariance = typical.scale_tril @ typical.scale_tril.mT
    torch.testing.assert_close(covariance, model.posterior(x).covariance_matrix[0])
    misfit = torch.linalg.eigvalsh(truth[0, 0] - torch.eye(2)).max().item() * 0.25
    assert typical.largest_misfit == pytest.approx(misfit)


def test_slope_has_a_graph_just_where_gradients_are_enabled() -> None:
    model = ResidualGenerator(latent_dim=2)
    joint = LogJoint(model, torch.randn(5, 2))
    z = torch.randn(5, 2, requires_grad=True)
    with torch.no_grad():
        without = slope(joint, z)
    assert not without.requires_grad
    found = slope(joint, z)
    assert found.requires_grad
    torch.testing.assert_close(found, without)
    assert not value_and_slope(joint, z, create_graph=False)[1].requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_slope_of_signs_is_that_of_the_prior() -> None:
    model, z = SignPermutation(3), torch.randn(5, 3)
    joint = LogJoint(model, torch.randn(5, 3))
    torch.testing.assert_close(slope(joint, z), -z)
    assert slope(joint.log_likelihood, z).abs().max() == 0
    assert curvature(joint.log_likelihood, z).abs().max() == 0


@pytest.mark.parametrize(("dim", "size"), [(1, None), (3, None), (3, 4), (8, 40)])
def test_balanced_noise_has_the_moments_of_a_standard_normal(dim: int, size: int | None) -> None:
    noise = balanced_noise(dim, size).double()
    torch.testing.assert_close(noise.mean(0), torch.zeros(dim).double(), rtol=0, atol=1e-6)
    second = noise.mT @ noise / len(noise)
    torch.testing.assert_close(second, torch.eye(dim).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["diagonal", "full", "mixture", "flow"])
class TestTransports:
    def make(self, name: str, *batch: int) -> tuple[Any, Tensor]:
        options = {"flow": {"num_layers": 2}, "mixture": {"num_components": 2}}
        family = make_family(name, 2, **options.get(name, {}))
        shift = torch.randn(*batch, family.num_parameters, dtype=torch.float64)
        return family, family.initial.double() + 0.3 * shift

    def test_points_have_the_density_of_the_distribution(self, name: str) -> None:
        family, parameters = self.make(name, 3, 4)
        points = family.transport(parameters, torch.randn(10, 2).double())
        assert points.z.shape[1:] == (3, 4, 2)
        q = family.distribution(parameters)
        torch.testing.assert_close(points.log_density, q.log_prob(points.z.clone()))
        total = points.log_weight.exp().sum(0)
        torch.testing.assert_close(total, torch.ones(3, 4).double())

    def test_points_have_the_moments_of_the_distribution(self, name: str) -> None:
        family, parameters = self.make(name)
        points = family.transport(parameters, balanced_noise(2, 200_000).double())
        drawn = family.distribution(parameters).sample((100_000,))
        for power in (1, 2, 3):
            found = (points.log_weight.exp()[:, None] * points.z**power).sum(0)
            error = (drawn**power).std(0) / 100_000**0.5
            assert ((found - (drawn**power).mean(0)).abs() < 8 * error).all()

    def test_derivatives_of_second_order_exist(self, name: str) -> None:
        family, parameters = self.make(name, 1)
        elbo = LocalElbo(
            family,
            balanced_noise(2).double(),
            LogJoint(ResidualGenerator(2).double(), torch.randn(1, 2).double()),
        )
        assert torch.autograd.gradgradcheck(elbo, parameters.requires_grad_(), atol=1e-4)


def test_gaussian_bounds_have_no_error() -> None:
    model = LinearGaussian(latent_dim=2, obs_dim=3).double()
    x = torch.randn(4, 3).double()
    posterior = model.posterior(x)
    family = make_family("full", 2)
    parameters = family.from_gaussian(posterior.mean, posterior.scale_tril)
    elbo = LocalElbo(family, balanced_noise(2).double(), LogJoint(model, x))
    torch.testing.assert_close(elbo(parameters), model.log_evidence(x), rtol=1e-6, atol=1e-6)


def test_signs_have_no_transport() -> None:
    with pytest.raises(SettingError, match="smoothly"):
        Sign(2).transport(torch.zeros(2), torch.zeros(4, 2))
