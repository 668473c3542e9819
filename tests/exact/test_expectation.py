"""The E-step: chunks, pruning, random generators."""

from __future__ import annotations

import hypothesis
import pytest
import torch
from hypothesis import strategies

from pyrolvm.exact import expectation, solve


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_chunks_and_pruning_change_nothing(random_stack, observe, monkeypatch, latent_dim):
    stack = random_stack(latent_dim, (9, 9), 4, 0.2)
    x = observe(stack, 23)
    whole = solve(stack, x)
    monkeypatch.setattr(expectation, "MAX_CHUNK", 3)
    monkeypatch.setitem(expectation.KEEP, latent_dim, 1e9)
    parts = solve(stack, x)
    assert parts.num_pairs > whole.num_pairs
    for name in ("log_evidence", "mean", "covariance", "entropy"):
        first, second = getattr(whole, name), getattr(parts, name)
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-11)


@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
@hypothesis.given(
    latent_dim=strategies.integers(1, 2),
    hidden=strategies.lists(strategies.integers(1, 7), max_size=3),
    obs_dim=strategies.integers(1, 9),
    noise=strategies.sampled_from([0.01, 0.1, 1.0]),
    activation=strategies.sampled_from(["relu", "leaky_relu", "abs"]),
    away=strategies.sampled_from([0.0, 5.0, 40.0]),
    seed=strategies.integers(0, 10_000),
)
def test_any_generator_has_a_normalised_posterior(
    random_stack, observe, log_joint, latent_dim, hidden, obs_dim, noise, activation, away, seed
):
    stack = random_stack(latent_dim, hidden, obs_dim, noise, activation, seed=seed)
    x = observe(stack, 3, away=away)
    posterior = solve(stack, x)
    z = posterior.sample(3, torch.Generator().manual_seed(seed))
    error = log_joint(stack, x, z) - posterior.log_prob(z) - posterior.log_evidence
    assert (error / posterior.log_evidence.abs().clamp(min=1)).abs().max() < 1e-8
    assert torch.linalg.eigvalsh(posterior.covariance).min() > 0
    bound = posterior.covariance.diagonal(dim1=1, dim2=2).log().sum(1)
    gaussian = 0.5 * bound + 0.5 * latent_dim * (1 + torch.log(torch.tensor(2 * torch.pi)))
    assert (posterior.entropy <= gaussian + 1e-6).all()
