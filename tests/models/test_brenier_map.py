"""BrenierMap: the gradient of a convex function, against optimal transport in closed form."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import models
from pyrolvm.core import ConvexGradient, HasCode, TriangularMonotone
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.nn.triangular import jacobian
from pyrolvm.testing import ModelContract


class TestBrenierMap(ModelContract):
    def make(self):
        return models.BrenierMap(2, hidden=(8, 8))


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = models.BrenierMap(2, hidden=(8, 8)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return made.standardise_by(torch.randn(50, 2) * torch.tensor([3.0, 0.5]) + 1)


def points(size=30):
    return 2 * torch.randn(size, 2, dtype=torch.float64)


def test_both_directions_have_symmetric_positive_definite_jacobians(model):
    for function in (model.encode, model.decode):
        found = jacobian(function, points())
        assert_close(found, found.mT, rtol=1e-8, atol=1e-8)
        assert torch.linalg.eigvalsh(found).min() > 0


def test_codes_decode_to_the_observations(model):
    x = points()
    assert_close(model.decode(model.encode(x)), x, rtol=0, atol=1e-6)
    assert_close(model.encode(model.decode(x)), x, rtol=0, atol=1e-6)


def test_the_generator_is_cyclically_monotone(model):
    for _ in range(50):
        z = points(4)
        assert (model.decode(z) * (z - z.roll(1, 0))).sum() >= 0


def test_the_generator_is_the_gradient_of_its_potential(model):
    z = points(9).requires_grad_()
    (gradient,) = torch.autograd.grad(model.potential(z).sum(), z)
    assert_close(gradient, model.decode(z), rtol=1e-8, atol=1e-8)


def test_the_evidence_changes_variables_by_the_dense_jacobian(model):
    x = points()
    dense = torch.linalg.slogdet(jacobian(model.encode, x))[1]
    wanted = model.prior().log_prob(model.encode(x)) + dense
    assert_close(model.log_evidence(x), wanted, rtol=0, atol=1e-9)


def test_the_density_integrates_to_one(model):
    axis = torch.linspace(-20, 20, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.cat([model.log_evidence(part).exp() for part in grid.split(50_000)])
    assert_close(density.sum() * 0.1**2, torch.tensor(1.0).double(), rtol=0, atol=2e-3)


def test_between_gaussians_it_finds_the_symmetric_root_and_no_triangular_one():
    torch.manual_seed(0)
    covariance = torch.tensor([[2.0, 0.8], [0.8, 0.5]])
    x = torch.randn(4000, 2) @ torch.linalg.cholesky(covariance).mT
    empirical = x.T.cov()
    model = models.BrenierMap(2, hidden=(8,))
    lvm.fit_exact(model, x, steps=100, progress=False)
    values, vectors = torch.linalg.eigh(empirical)
    transport = vectors @ values.rsqrt().diag() @ vectors.mT  # N(m, S) to N(0, I): S^(-1/2)
    error = (model.encode(x) - (x - x.mean(0)) @ transport).square().mean().sqrt()
    assert error < 0.06


def test_it_offers_a_code_and_a_convex_gradient(model):
    assert offers(model, HasCode)
    assert offers(model, ConvexGradient)
    assert not offers(model, TriangularMonotone)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(SettingError, match="dim should be at least 1"):
        models.BrenierMap(0)
    with pytest.raises(SettingError, match="convexity should be positive"):
        models.BrenierMap(2, convexity=0.0)
