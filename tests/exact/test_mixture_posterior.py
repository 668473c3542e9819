"""Posterior and evidence under a mixture prior: quadrature, sums by hand, draws, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from pyrolvm.exact import (
    GeneratorError,
    MixturePosterior,
    PartitionMismatchError,
    log_evidence,
    solve,
)


def mixed(stack, components=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    dim = stack.latent_dim
    loc = 1.5 * torch.randn(components, dim, generator=random, dtype=torch.float64)
    tril = 0.3 * torch.randn(components, dim, dim, generator=random, dtype=torch.float64)
    tril = tril.tril(-1) + torch.diag_embed(0.4 + tril.diagonal(dim1=1, dim2=2).abs())
    logits = torch.randn(components, generator=random, dtype=torch.float64)
    return replace(stack, prior_loc=loc, prior_scale_tril=tril, prior_logits=logits)


def joint(stack, x, z):
    parts = MultivariateNormal(stack.prior_loc, scale_tril=stack.prior_scale_tril)
    prior = MixtureSameFamily(Categorical(logits=stack.prior_logits), parts).log_prob(z)
    return prior + Normal(stack.forward(z), stack.noise_scale).log_prob(x).sum(-1)


@pytest.fixture(params=[(1, (6,)), (1, (8, 5)), (2, (7,)), (2, (5, 5))], ids=str)
def case(request, random_stack, observe):
    latent_dim, hidden = request.param
    single = random_stack(latent_dim, hidden, 4, 0.3, "leaky_relu", seed=2)
    return mixed(single), observe(single, 5)


def test_evidence_and_moments_match_a_dense_grid(case):
    stack, x = case
    found = solve(stack, x)
    assert isinstance(found, MixturePosterior)
    axis = torch.linspace(-7, 7, 200_001 if stack.latent_dim == 1 else 1201, dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * stack.latent_dim).reshape(-1, stack.latent_dim)
    cell = (axis[1] - axis[0]).log() * stack.latent_dim
    for n, row in enumerate(x):
        level = joint(stack, row, z) + cell
        assert level.logsumexp(0).item() == pytest.approx(found.log_evidence[n].item(), abs=1e-5)
        share = level.softmax(0)
        mean = share @ z
        torch.testing.assert_close(mean, found.mean[n], atol=2e-5, rtol=0)
        covariance = (z - mean).mT @ ((z - mean) * share[:, None])
        torch.testing.assert_close(covariance, found.covariance[n], atol=2e-5, rtol=0)


def test_the_joint_over_the_posterior_is_the_evidence(case):
    stack, x = case
    found = solve(stack, x)
    z = found.sample(50, torch.Generator().manual_seed(1))
    assert z.shape == (50, 5, stack.latent_dim)
    error = joint(stack, x, z) - found.log_prob(z) - found.log_evidence
    assert error.abs().max() < 1e-9


def test_draws_have_the_moments(case):
    stack, x = case
    found = solve(stack, x)
    z = found.sample(20_000, torch.Generator().manual_seed(1))
    rest = z - found.mean
    assert (rest.mean(0) / (z.std(0) / 20_000**0.5)).abs().max() < 5
    outer = rest[..., :, None] * rest[..., None, :]
    error = (outer.mean(0) - found.covariance) / (outer.std(0) / 20_000**0.5)
    assert error.abs().max() < 5


def test_region_probabilities_sum_to_one_and_regions_carry_the_map(case):
    stack, x = case
    found = solve(stack, x)
    dense = found.region_probabilities.dense()
    assert dense.shape == (5, found.num_regions)
    torch.testing.assert_close(dense.sum(1), torch.ones(5, dtype=torch.float64))
    mean = torch.einsum("nr,rd->nd", dense, found.regions.offsets)
    assert mean.shape == x.shape
    z = found.sample(40_000, torch.Generator().manual_seed(3))[:, 0]
    maps = torch.einsum("rds,ks->krd", found.regions.matrices, z) + found.regions.offsets
    hit = (maps - stack.forward(z)[:, None]).abs().amax(2).argmin(1)
    share = torch.bincount(hit, minlength=found.num_regions) / 40_000
    error = (dense[0] * (1 - dense[0]) / 40_000).sqrt() + 1e-4
    assert ((share - dense[0]).abs() / error).max() < 5


def test_one_component_is_the_single_gaussian(random_stack, observe):
    stack = random_stack(2, (6,), 4, seed=4)
    x = observe(stack, 6)
    one = replace(
        stack,
        prior_loc=stack.prior_loc[None],
        prior_scale_tril=stack.prior_scale_tril[None],
        prior_logits=torch.zeros(1),
    )
    torch.testing.assert_close(solve(one, x).log_evidence, solve(stack, x).log_evidence)
    torch.testing.assert_close(solve(one, x).covariance, solve(stack, x).covariance)


def test_gradients_match_finite_differences(random_stack, observe):
    single = random_stack(1, (5,), 3, 0.4, seed=5)
    stack, x = mixed(single, 2), observe(single, 4)
    leaves = [
        t.detach().clone().requires_grad_()
        for t in (stack.prior_loc, stack.prior_scale_tril, stack.prior_logits, stack.weights[0])
    ]

    def value(loc, tril, logits, weight):
        weights = (weight, *stack.weights[1:])
        live = replace(
            stack, weights=weights, prior_loc=loc, prior_scale_tril=tril, prior_logits=logits
        )
        return log_evidence(live, x)

    assert torch.autograd.gradcheck(value, leaves, eps=1e-6, atol=1e-6)


def test_partitions_are_kept_one_a_component(case):
    stack, x = case
    found = solve(stack, x)
    again = solve(stack, x, partition=found.partition)
    assert torch.equal(again.log_evidence, found.log_evidence)
    with pytest.raises(PartitionMismatchError, match="each of 3 components"):
        solve(stack, x, partition=found.partition[:2])


def test_shapes_that_do_not_fit_are_refused(random_stack):
    stack = random_stack(2, (4,), 3)
    with pytest.raises(GeneratorError, match="prior_loc of shape"):
        replace(stack, prior_logits=torch.zeros(2))
