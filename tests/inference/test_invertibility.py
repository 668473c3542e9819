"""Measured bi-Lipschitz constants against maps whose constants are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm.core.errors import SettingError
from pyrolvm.models import Folding, ManifoldGenerator, ResidualGenerator, SignPermutation

MATRIX = torch.tensor([[3.0, 0.0], [0.0, 0.5], [0.0, 0.0]], dtype=torch.float64)


class Linear:
    """Any object with a prior and a map will do."""

    latent_dim = 2
    obs_dim = 3

    def prior(self):
        return torch.distributions.MultivariateNormal(
            torch.zeros(2).double(), torch.eye(2).double()
        )

    def generate(self, z):
        return z @ MATRIX.T


def test_a_linear_map_has_its_singular_values():
    found = lvm.invertibility(Linear())
    assert_close(found.jacobian, (0.5, 3.0), rtol=1e-9, atol=0)
    assert 0.5 <= found.pairs[0] < 0.5001
    assert 2.999 < found.pairs[1] <= 3.0 + 1e-9
    assert found.condition_number == pytest.approx(6.0, rel=1e-6)
    assert found.certified is None


def test_a_fold_maps_different_points_to_one():
    found = lvm.invertibility(Folding(3), num_pairs=20_000)
    assert found.pairs[0] < 1e-3


def test_a_step_has_no_slope_and_no_lipschitz_constant():
    found = lvm.invertibility(SignPermutation(3))
    assert found.jacobian == (0.0, 0.0)
    assert found.pairs[0] == 0.0
    assert found.pairs[1] > 100
    assert found.condition_number == math.inf


def test_fewer_observations_than_latents_forget_a_direction():
    class Sum(Linear):
        obs_dim = 1

        def generate(self, z):
            return z.sum(-1, keepdim=True)

    found = lvm.invertibility(Sum())
    assert found.jacobian[0] == 0.0
    assert found.jacobian[1] == pytest.approx(math.sqrt(2))


def test_both_kinds_stand_side_by_side():
    text = str(lvm.invertibility(ResidualGenerator(2), num_pairs=10, num_points=7))
    assert "certified: m 0.5, M 1.5" in text
    assert "10 pairs: m" in text
    assert "7 Jacobians: m" in text
    assert "square, so that bounds on them at every point would prove m" in text


def test_jacobians_of_a_surface_prove_nothing_and_the_text_says_so():
    text = str(lvm.invertibility(ManifoldGenerator(2, 3), num_pairs=10, num_points=7))
    assert "not square, so that even bounds on them at every point would not prove m" in text
    assert "certified: none" in str(lvm.invertibility(Linear(), num_pairs=10, num_points=7))


def test_the_seed_repeats_it_and_the_callers_random_numbers_stay():
    model = ResidualGenerator(2)
    state = torch.get_rng_state()
    assert lvm.invertibility(model, seed=1) == lvm.invertibility(model, seed=1)
    assert lvm.invertibility(model, seed=1) != lvm.invertibility(model, seed=2)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("options", [{"num_pairs": 1}, {"num_points": 0}])
def test_too_few_samples_are_refused(options):
    with pytest.raises(SettingError, match="should be at least"):
        lvm.invertibility(ResidualGenerator(2), **options)


def test_trained_models_are_measured_too():
    torch.manual_seed(0)
    linear = lvm.models.LinearGaussian(2, 4)
    found = lvm.invertibility(linear, num_points=4)
    values = torch.linalg.svdvals(linear.decoder[0].weight.detach().double())
    assert found.jacobian == pytest.approx((values.min().item(), values.max().item()))
    assert found.certified is None
    bernoulli = lvm.models.VAE(2, 4, likelihood="bernoulli")
    assert lvm.invertibility(bernoulli, num_points=4).jacobian[1] < 1
