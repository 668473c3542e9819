"""The block mass matrix against dense algebra."""

from __future__ import annotations

import torch

from pyrolvm.inference.reference.mass_matrix import POINTS, RowBlocks


def adapted(num_draws=4000):
    torch.manual_seed(0)
    factor = torch.tensor([[[2.0, 0.0], [1.5, 0.5]], [[0.1, 0.0], [0.0, 3.0]]]).double()
    blocks = RowBlocks((2, 2))
    blocks.configure({}, options={"dtype": torch.float64})
    for _ in range(num_draws):
        noise = torch.randn(2, 2, dtype=torch.float64)
        blocks.update({POINTS: (factor @ noise[..., None])[..., 0]}, {})
    blocks.end_adaptation()
    return blocks, factor @ factor.mT


def test_blocks_come_to_be_the_covariances():
    blocks, covariance = adapted()
    (found,) = blocks.inverse_mass_matrix.values()
    assert torch.allclose(found, covariance, rtol=0.1, atol=0.05)


def test_momenta_have_the_inverse_covariance():
    blocks, _ = adapted()
    (inverse_mass,) = blocks.inverse_mass_matrix.values()
    noise = torch.randn(20_000, 4, dtype=torch.float64)
    momenta = torch.stack([blocks.scale({(POINTS,): e}, None)[POINTS] for e in noise])
    mass = torch.einsum("kns,knt->nst", momenta, momenta) / len(momenta)
    product = mass @ inverse_mass
    assert torch.allclose(product, torch.eye(2, dtype=torch.float64).expand(2, 2, 2), atol=0.1)


def test_unscaling_undoes_scaling_and_velocity_is_the_product():
    blocks, _ = adapted(50)
    (inverse_mass,) = blocks.inverse_mass_matrix.values()
    noise = torch.randn(4, dtype=torch.float64)
    r = blocks.scale({(POINTS,): noise}, None)
    assert torch.allclose(blocks.unscale(r)[(POINTS,)], noise)
    velocity = (inverse_mass @ r[POINTS][..., None])[..., 0]
    assert torch.allclose(blocks.kinetic_grad(r)[POINTS], velocity)


def test_coordinates_that_stand_still_keep_their_scale():
    blocks = RowBlocks((1, 2))
    blocks.configure({}, options={"dtype": torch.float64})
    for _ in range(20):
        blocks.update({POINTS: torch.zeros(1, 2, dtype=torch.float64)}, {})
    blocks.end_adaptation()
    (found,) = blocks.inverse_mass_matrix.values()
    assert torch.equal(found[0], torch.eye(2, dtype=torch.float64))
