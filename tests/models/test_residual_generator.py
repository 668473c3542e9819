"""ResidualGenerator: its proven constants, its inverse, and how curved it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core import DataError, evaluating
from pyrolvm.core.errors import SettingError
from pyrolvm.inference.invertibility import invertibility
from pyrolvm.models import ResidualGenerator
from pyrolvm.testing import ModelContract

SETTINGS = [(1, 32, 0.5, 1.0), (2, 8, 0.9, 2.0), (4, (32,), 0.5, 1.0), (5, 3, 0.8, 5.0)]


class TestResidualGenerator(ModelContract):
    def make(self):
        return ResidualGenerator(latent_dim=2, hidden=6)

    @pytest.mark.parametrize("settings", SETTINGS)
    def test_the_inverse_gives_z_back(self, settings):
        model, z = ResidualGenerator(*settings).double(), torch.randn(200, settings[0]).double()
        with evaluating(model):
            assert (model.inverse(model.generate(z), 1e-9) - z).norm(dim=-1).max() < 2e-9

    @pytest.mark.parametrize("tolerance", [1.0, 1e-1, 1e-3])
    def test_the_inverse_is_as_near_as_asked(self, tolerance):
        model, z = ResidualGenerator(2, 8, 0.9, 2.0).double(), torch.randn(200, 2).double()
        error = (model.inverse(model.generate(z), tolerance) - z).norm(dim=-1)
        assert error.max() < tolerance

    def test_the_inverse_of_infinity_is_refused(self):
        with pytest.raises(DataError, match="finite points"):
            self.make().inverse(torch.tensor([[math.inf, 0.0]]))

    @pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan])
    def test_what_is_no_tolerance_is_refused(self, tolerance):
        with pytest.raises(SettingError, match="tolerance should be positive"):
            self.make().inverse(torch.zeros(1, 2), tolerance)

    @pytest.mark.parametrize("settings", SETTINGS)
    @pytest.mark.parametrize("disturbance", [0.0, 3.0])
    def test_sampled_constants_obey_the_certificate_for_any_weights(self, settings, disturbance):
        model = ResidualGenerator(*settings)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(disturbance * torch.randn_like(parameter))
        found = invertibility(model)
        low, high = found.certified
        assert low - 1e-6 < min(found.pairs[0], found.jacobian[0])
        assert max(found.pairs[1], found.jacobian[1]) < high + 1e-6

    @pytest.mark.parametrize("settings", [(2, 32, 0.5, 1.0), (2, 8, 0.9, 2.0)])
    def test_the_certificate_is_nearly_attained_at_the_start(self, settings):
        found = invertibility(ResidualGenerator(*settings), num_points=2000)
        assert_close(found.jacobian, found.certified, rtol=0.05, atol=0.01)

    def test_the_second_derivative_obeys_its_bound(self):
        model = ResidualGenerator(3, 8, 0.9, 2.0).double()
        z = torch.randn(50, 3).double()
        directions = torch.nn.functional.normalize(torch.randn(50, 3).double(), dim=-1)
        step = 1e-4 * directions
        second = (
            model.generate(z + step) + model.generate(z - step) - 2 * model.generate(z)
        ) / 1e-8
        assert second.norm(dim=-1).max() <= model.second_order_bound * (1 + 1e-4)

    @pytest.mark.parametrize("settings", [(2, 8, 0.5, 1.0), (4, 32, 0.5, 1.0), (5, 16, 0.3, 2.0)])
    def test_the_posterior_is_strongly_log_concave_where_the_misfit_is_small(self, settings):
        model = ResidualGenerator(*settings).double()
        m, _ = model.certified_constants
        noise, radius = model.noise_scale[0], m**2 / (2 * model.second_order_bound)
        start = torch.randn(30, model.latent_dim).double()
        around = start + 0.3 * radius * torch.randn_like(start) / model.latent_dim**0.5
        x = model.generate(start).detach()
        misfit = (model.generate(around) - x).norm(dim=-1)
        assert (misfit <= radius).sum() > 10
        for point, datum in zip(around[misfit <= radius], x[misfit <= radius], strict=True):
            hessian = torch.autograd.functional.hessian(
                lambda z, d=datum: energy(model, z, d), point
            )
            assert torch.linalg.eigvalsh(hessian)[0] >= 1 + m**2 / (2 * noise**2)

    def test_some_settings_are_visibly_curved(self):
        curved = ResidualGenerator(2, 2, contraction=0.95, input_scale=1.0, noise_scale=0.1)
        flat = ResidualGenerator(2, 32, contraction=0.3, input_scale=0.3, noise_scale=0.1)
        assert divergence_of_moments(curved) > 0.03
        assert divergence_of_moments(flat) < 0.001

    @pytest.mark.parametrize("contraction", [0.0, 1.0, 1.5, -0.2, math.nan])
    def test_what_is_no_contraction_is_refused(self, contraction):
        with pytest.raises(SettingError, match="contraction between 0 and 1, but it is"):
            ResidualGenerator(2, contraction=contraction)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"hidden": (8, 8)}, "one hidden layer"),
            ({"hidden": 0}, "hidden should be at least 1"),
            ({"input_scale": 0.0}, "must be positive"),
        ],
    )
    def test_other_networks_are_refused(self, options, sentence):
        with pytest.raises(SettingError, match=sentence):
            ResidualGenerator(2, **options)


def energy(model, z, x):
    """Negative log joint of one point, without constants."""
    misfit = model.generate(z) - x
    return z.square().sum() / 2 + misfit.square().sum() / (2 * model.noise_scale[0] ** 2)


def divergence_of_moments(model):
    """Mean KL(q||p), by quadrature, of the Gaussian q with the posterior's mean and covariance."""
    axis = torch.linspace(-5, 5, 301, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    cell = (axis[1] - axis[0]) ** 2
    with evaluating(model):
        joint = model.likelihood(z).log_prob(model(size=30)[:, None]) + model.prior().log_prob(z)
    log_posterior = joint.log_softmax(-1) - cell.log()
    weight = joint.softmax(-1)
    mean = weight @ z
    second = torch.einsum("ng,gi,gj->nij", weight, z, z)
    covariance = second - mean[:, :, None] * mean[:, None]
    q = torch.distributions.MultivariateNormal(mean[:, None], covariance[:, None]).log_prob(z)
    return (q.exp() * cell * (q - log_posterior)).sum(-1).mean()
