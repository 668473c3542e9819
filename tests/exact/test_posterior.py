"""The posterior as an object: identity, draws, region probabilities."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from pyrolvm.exact import ObservationError, solve

CASES = [
    (1, (10,), 3, 0.3, "relu"),
    (1, (8, 8), 12, 0.05, "leaky_relu"),
    (2, (8, 8), 5, 0.1, "relu"),
    (2, (5, 5, 5), 3, 0.5, "abs"),
    (2, (8, 6), 20, 0.02, "leaky_relu"),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}d-{case[3]}-{case[4]}")
def case(request, random_stack, observe):
    latent_dim, hidden, obs_dim, noise, activation = request.param
    stack = random_stack(latent_dim, hidden, obs_dim, noise, activation, seed=11)
    x = observe(stack, 6)
    return stack, x, solve(stack, x)


def test_joint_over_posterior_is_the_evidence_at_draws(case, log_joint):
    stack, x, posterior = case
    z = posterior.sample(40, torch.Generator().manual_seed(0))
    error = log_joint(stack, x, z) - posterior.log_prob(z) - posterior.log_evidence
    assert error.abs().max() < 1e-8


def test_joint_over_posterior_is_the_evidence_anywhere(case, log_joint):
    stack, x, posterior = case
    random = torch.Generator().manual_seed(3)
    z = 5 * torch.randn(3, 4, 6, posterior.latent_dim, generator=random, dtype=torch.float64)
    z[0] *= 10
    joint = log_joint(stack, x, z)
    error = joint - posterior.log_prob(z) - posterior.log_evidence
    assert (error / joint.abs().clamp(min=1)).abs().max() < 1e-11
    assert posterior.log_prob(z).shape == (3, 4, 6)


def test_region_probabilities_sum_to_one(case):
    _, _, posterior = case
    dense = posterior.region_probabilities.dense()
    assert dense.shape == (6, posterior.num_regions)
    torch.testing.assert_close(dense.sum(1), torch.ones(6, dtype=torch.float64))


def test_draws_have_the_exact_moments(case):
    _, _, posterior = case
    num = 20_000
    z = posterior.sample(num, torch.Generator().manual_seed(5))
    rest = z - posterior.mean
    error = rest.mean(0) / (posterior.covariance.diagonal(dim1=1, dim2=2) / num).sqrt()
    assert error.abs().max() < 5
    outer = rest[..., :, None] * rest[..., None, :]
    error = (outer.mean(0) - posterior.covariance) / (outer.std(0) / num**0.5)
    assert error.abs().max() < 5
    surprise = -posterior.log_prob(z)
    error = (surprise.mean(0) - posterior.entropy) / (surprise.std(0) / num**0.5)
    assert error.abs().max() < 5


def test_draws_fall_into_regions_with_their_probabilities(case):
    _, _, posterior = case
    num = 20_000
    z = posterior.sample(num, torch.Generator().manual_seed(6))
    regions = posterior.regions
    dense = posterior.region_probabilities.dense()
    for n in range(2):
        for r in torch.argsort(dense[n], descending=True)[:3].tolist():
            if posterior.latent_dim == 1:
                found = torch.searchsorted(regions.breakpoints, z[:, n, 0].contiguous()) == r
            else:
                corner = regions.polygons[r]
                edge = corner.roll(-1, 0) - corner
                rest = z[:, n, None] - corner
                found = (edge[:, 0] * rest[..., 1] - edge[:, 1] * rest[..., 0] >= 0).all(1)
            p = dense[n, r].item()
            error = (found.double().mean().item() - p) / max((p * (1 - p) / num) ** 0.5, 1 / num)
            assert abs(error) < 5


def test_line_draws_follow_the_exact_distribution(trained_line, observe):
    x = observe(trained_line, 3, away=10.0)
    posterior = solve(trained_line, x)
    z = posterior.sample(5000, torch.Generator().manual_seed(1))
    for n in range(3):
        low, high = z[:, n].min().item() - 1.0, z[:, n].max().item() + 1.0
        grid = torch.linspace(low, high, 100_001, dtype=torch.float64)
        points = grid[:, None, None].expand(-1, 3, 1)
        density = posterior.log_prob(points)[:, n].exp().numpy()
        mass = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        mass *= (high - low) / 100_000
        assert mass[-1] == pytest.approx(1.0, abs=1e-4)
        result = stats.kstest(z[:, n, 0].numpy(), partial(np.interp, xp=grid.numpy(), fp=mass))
        assert result.pvalue > 1e-3


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_draws_far_off_the_manifold_have_the_exact_moments(random_stack, observe, latent_dim):
    stack = random_stack(latent_dim, (6,), 4, 0.1, seed=3)
    posterior = solve(stack, observe(stack, 8, away=200.0))
    num = 5000
    z = posterior.sample(num, torch.Generator().manual_seed(2))
    scale = (posterior.covariance.diagonal(dim1=1, dim2=2) / num).sqrt()
    assert ((z.mean(0) - posterior.mean) / scale).abs().max() < 5


def test_draws_are_reproducible_and_do_not_depend_on_threads(case):
    _, _, posterior = case
    threads = torch.get_num_threads()
    first = posterior.sample(7, torch.Generator().manual_seed(9))
    try:
        torch.set_num_threads(1)
        second = posterior.sample(7, torch.Generator().manual_seed(9))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(first, second)
    assert not torch.equal(first, posterior.sample(7, torch.Generator().manual_seed(10)))


def test_points_of_the_wrong_shape_are_refused(case):
    _, _, posterior = case
    with pytest.raises(ObservationError, match="needs points of shape"):
        posterior.log_prob(torch.zeros(5, posterior.latent_dim))
