"""Each latent dimension has its kernels: they give one posterior, and the prior without data."""

from __future__ import annotations

from dataclasses import replace
from math import log, pi

import pytest
import torch

from pyrolvm.exact import AffineStack, Partition, expectation, solve


def without_observations(stack: AffineStack) -> AffineStack:
    """The same latent variables with no observed coordinate."""
    return replace(
        stack,
        weights=(*stack.weights[:-1], stack.weights[-1][:0]),
        biases=(*stack.biases[:-1], stack.biases[-1][:0]),
        noise_scale=stack.noise_scale[:0],
    )


def test_the_joint_over_the_posterior_is_the_evidence(random_stack, observe, log_joint):
    for dim, hidden in [(1, (6, 6)), (2, (5, 5)), (3, (5, 4)), (4, (4,)), (5, (3,))]:
        stack = random_stack(dim, hidden, dim + 1, 0.4, seed=dim)
        x = observe(stack, 3)
        posterior = solve(stack, x)
        z = posterior.sample(20, torch.Generator().manual_seed(0))
        assert z.shape == (20, 3, dim)
        joint = log_joint(stack, x, z)
        error = joint - posterior.log_prob(z) - posterior.log_evidence
        assert (error / joint.abs().clamp(min=1)).abs().max() < 1e-11
        assert (posterior.standard_error > 0).all() == (dim > 3)
        assert torch.linalg.eigvalsh(posterior.covariance).min() > 0


@pytest.mark.parametrize(("dim", "hidden"), [(1, (6, 6)), (2, (5, 5)), (3, (5, 4)), (4, (4,))])
def test_no_observed_coordinate_leaves_the_prior(random_stack, dim, hidden):
    stack = random_stack(dim, hidden, 3, seed=7)
    posterior = solve(without_observations(stack), torch.zeros(2, 0))
    tolerance = 1e-11 if dim <= 3 else 1e-3
    expected = {
        "log_evidence": torch.zeros(2),
        "mean": stack.prior_loc.expand(2, dim),
        "covariance": (stack.prior_scale_tril @ stack.prior_scale_tril.mT).expand(2, dim, dim),
        "entropy": (
            0.5 * dim * (1 + log(2 * pi)) + stack.prior_scale_tril.diagonal().log().sum()
        ).expand(2),
    }
    for name, value in expected.items():
        found = getattr(posterior, name)
        # second moments of a lattice err more than its mass
        atol = 20 * tolerance if name in ("covariance", "entropy") else tolerance
        torch.testing.assert_close(found, value.double(), rtol=0, atol=atol)


@pytest.mark.parametrize("dim", [2, 3])
def test_evidence_and_moments_agree_with_draws_from_the_prior(
    random_stack, observe, log_joint, dim
):
    stack = random_stack(dim, (5, 4), 2, 1.5, seed=9)
    x = observe(stack, 4)
    posterior = solve(stack, x)
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(40_000, 1, dim, generator=random, dtype=torch.float64)
    z = stack.prior_loc + noise @ stack.prior_scale_tril.mT
    prior = torch.distributions.MultivariateNormal(
        stack.prior_loc, scale_tril=stack.prior_scale_tril
    )
    weight = (log_joint(stack, x, z) - prior.log_prob(z) - posterior.log_evidence).exp()
    error = (weight.mean(0) - 1) / (weight.std(0) / 200)
    assert error.abs().max() < 5
    rest = weight[..., None] * (z - posterior.mean)
    assert (rest.mean(0) / (rest.std(0) / 200)).abs().max() < 5
    outer = (z - posterior.mean)[..., None] * (z - posterior.mean)[..., None, :]
    rest = weight[..., None, None] * (outer - posterior.covariance)
    assert (rest.mean(0) / (rest.std(0) / 200)).abs().max() < 5


@pytest.mark.parametrize("size", [3, 20])
def test_a_box_that_is_too_small_grows(random_stack, observe, size):
    stack = random_stack(3, (5, 4), 5, 0.2, seed=2)
    x = observe(stack, size, away=12.0)
    small = solve(stack, x, partition=Partition.of(stack, box=2.0))
    large = solve(stack, x, box=24.0)
    assert 8 < small.partition.box < large.partition.box == 24
    assert small.lost_mass.max() <= expectation.LOST_MASS[3]
    for name in ("log_evidence", "mean", "covariance", "entropy"):
        found, expected = getattr(small, name), getattr(large, name)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_data_near_the_manifold_fit_the_first_box(random_stack, observe):
    stack = random_stack(3, (5, 4), 5, 0.3, seed=2)
    posterior = solve(stack, observe(stack, 12))
    assert posterior.partition.box == 8
    assert 0 < posterior.lost_mass.max() <= expectation.LOST_MASS[3]
