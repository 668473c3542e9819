"""Distances on a decoder's surface: known geodesics, and no dependence on coordinates."""

from __future__ import annotations

import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.identifiability import pullback_distances


def sphere(z):
    across, up = z[:, 0], z[:, 1]
    return torch.stack([across.cos() * up.cos(), across.sin() * up.cos(), up.sin()], -1)


@pytest.fixture
def network():
    layers = torch.nn.Linear(2, 24), torch.nn.Tanh(), torch.nn.Linear(24, 5)
    return torch.nn.Sequential(*layers).double()


@pytest.fixture
def pairs():
    return torch.randn(20, 2, dtype=torch.float64), torch.randn(20, 2, dtype=torch.float64)


def test_on_a_sphere_they_are_great_circles():
    z_a, z_b = torch.rand(2, 20, 2, dtype=torch.float64) * torch.tensor([2.0, 1.2])
    circles = torch.arccos((sphere(z_a) * sphere(z_b)).sum(-1))
    found = pullback_distances(sphere, z_a, z_b, num_chords=32)
    assert ((found - circles).abs() < 1e-3).all()
    straight = pullback_distances(sphere, z_a, z_b, num_chords=32, num_steps=0)
    assert (straight - circles).max() > 0.02
    assert (found <= straight).all()


def test_a_linear_decoder_gives_its_mahalanobis_distance(pairs):
    z_a, z_b = pairs
    loading = torch.randn(4, 2, dtype=torch.float64)
    found = pullback_distances(lambda z: z @ loading.mT, z_a, z_b)
    torch.testing.assert_close(found, ((z_a - z_b) @ loading.mT).norm(dim=-1))


def test_rotation_and_scales_of_the_latent_space_change_nothing(network, pairs):
    z_a, z_b = pairs
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double() @ torch.diag(
        torch.tensor([0.2, 3.0]).double()
    )
    back = torch.linalg.inv(turn)
    found = pullback_distances(network, z_a, z_b)
    moved = pullback_distances(lambda z: network(z @ back.mT), z_a @ turn.mT, z_b @ turn.mT)
    torch.testing.assert_close(found, moved, rtol=1e-8, atol=0)
    ratio = ((z_a - z_b) @ turn.mT).norm(dim=-1) / (z_a - z_b).norm(dim=-1)
    assert (ratio.max() / ratio.min()) > 1.5


def test_nonlinear_maps_of_the_latent_space_change_nothing(network, pairs):
    z_a, z_b = pairs

    def bend(z, sign):
        return torch.stack([z[:, 0], z[:, 1] + sign * 0.3 * z[:, 0] ** 2], -1)

    found = pullback_distances(network, z_a, z_b, num_steps=40)
    moved = pullback_distances(
        lambda z: network(bend(z, -1)), bend(z_a, 1), bend(z_b, 1), num_steps=40
    )
    assert ((found - moved).abs() / found).median() < 1e-6


def test_single_precision_and_gradients_of_the_decoder_are_left_alone(network, pairs):
    z_a, z_b = (z.float() for z in pairs)
    found = pullback_distances(network.float(), z_a, z_b)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_equal_points_have_no_distance(network, pairs):
    assert (pullback_distances(network, pairs[0], pairs[0]) == 0).all()


def test_points_of_other_shapes_and_bad_images_are_refused(network):
    with pytest.raises(DataError, match="two matrices"):
        pullback_distances(network, torch.zeros(3, 2), torch.zeros(2, 2))
    with pytest.raises(DataError, match="finite images"):
        pullback_distances(torch.log, torch.zeros(3, 2), torch.ones(3, 2))
    with pytest.raises(DataError, match="tensors of latent points"):
        pullback_distances(network, torch.zeros(3, 2).numpy(), torch.zeros(3, 2).numpy())
