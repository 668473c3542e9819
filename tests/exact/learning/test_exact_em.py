"""Safeguarded EM never raises the negative log likelihood; undamped EM does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from pyrolvm.datasets import synthetic
from pyrolvm.exact import AffineStack, solve
from pyrolvm.exact.learning.exact_em import ExactEM
from pyrolvm.exact.learning.learning_parts import LearningParts


def glorot(hidden, seed, slope=0.1):
    """A network from one latent to two observed coordinates, with standard normal biases."""
    random = torch.Generator().manual_seed(seed)
    widths = [1, *hidden, 2]
    weights = [
        (6 / (a + b)) ** 0.5 * (2 * torch.rand(b, a, generator=random, dtype=torch.float64) - 1)
        for a, b in pairwise(widths)
    ]
    biases = [torch.randn(b, generator=random, dtype=torch.float64) for b in widths[1:]]
    noise, zero, one = (torch.tensor(v, dtype=torch.float64) for v in (0.55, [0.0], [[1.0]]))
    return AffineStack(tuple(weights), tuple(biases), (slope,) * len(hidden), noise, zero, one)


def em_for(stack, x, **settings):
    layers = (True,) * len(stack.weights)
    learning = LearningParts(layers, layers, noise=True, isotropic=True)
    floor = 1e-4 * float(x.var(0).mean())
    return ExactEM(stack, x, learning, **{"noise_floor": floor, **settings})


def run(em, sweeps):
    return np.array([em.nll] + [em.sweep() for _ in range(sweeps)])


@pytest.mark.parametrize("hidden", [(8,), (8, 8)])
@pytest.mark.parametrize("name", ["circle", "wave"])
def test_safeguarded_em_never_rises(name, hidden):
    x = getattr(synthetic, name)(500, noise_scale=0.1, seed=1).train.double().numpy()
    em = em_for(glorot(hidden, 1), x)
    values = run(em, 25)
    assert (np.diff(values) <= 0).all()
    assert values[-1] < values[0] - 1.0
    again = solve(em.step.stack, torch.from_numpy(x)).log_evidence.mean().item()
    assert values[-1] == pytest.approx(-again, abs=1e-12)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize(("latent_dim", "hidden"), [(1, (5, 4)), (2, (5,)), (3, (4,))])
def test_safeguarded_em_never_rises_on_random_nets(
    random_stack, observe, latent_dim, hidden, activation
):
    stack = random_stack(latent_dim, hidden, 4, 0.5, activation, seed=2)
    x = observe(random_stack(latent_dim, hidden, 4, 0.3, activation, seed=5), 40).numpy()
    stack = replace(
        stack,
        weights=tuple(weight.detach() for weight in stack.weights),
        biases=tuple(bias.detach() for bias in stack.biases),
    )
    layers = (True,) * len(stack.weights)
    em = ExactEM(
        stack, x, LearningParts(layers, layers, True, False, True, True), noise_floor=1e-4
    )
    values = run(em, 6)
    assert (np.diff(values) <= 0).all()
    assert values[-1] < values[0] - 0.1


def test_undamped_em_destroys_the_likelihood_in_most_runs():
    """The regions move under a full step. If this fails, the safeguard may not be needed."""
    rises = []
    for seed in range(5):
        x = synthetic.wave(300, noise_scale=0.1, seed=seed).train.double().numpy()
        values = run(em_for(glorot((8,), seed), x, update="undamped"), 40)
        rises.append(np.diff(values).max())
        assert np.isfinite(values).all()
    assert sum(rise > 0.01 for rise in rises) >= 3, rises
    assert max(rises) > 100


def test_undamped_em_keeps_the_last_finite_state_where_it_breaks():
    x = synthetic.circle(100, noise_scale=0.1, seed=0).train.double().numpy()
    em = em_for(glorot((8,), 0), x, update="undamped", max_regions=9)
    before = em.nll
    em.max_regions = 1  # no hidden layer can be evaluated any more
    assert em.sweep() == before
    assert "max_regions" in em.failure
    assert em.sweep() == before


@pytest.mark.parametrize("depth", [1, 2])
def test_a_linear_network_reaches_probabilistic_pca(depth):
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 4)) @ np.diag([3.0, 1.5, 0.2, 0.1]) + 1.0
    generator = torch.Generator().manual_seed(0)
    widths = [2, 3, 4] if depth == 2 else [2, 4]
    weights = tuple(
        torch.randn(b, a, generator=generator, dtype=torch.float64) for a, b in pairwise(widths)
    )
    biases = tuple(torch.zeros(b, dtype=torch.float64) for b in widths[1:])
    start = AffineStack(
        weights,
        biases,
        (1.0,) * (depth - 1),
        torch.ones((), dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
        torch.eye(2, dtype=torch.float64),
    )
    em = em_for(start, x)
    values = run(em, 60)
    roots = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))
    noise = roots[:2].mean()
    nll = 0.5 * (4 * np.log(2 * np.pi) + np.log(roots[2:]).sum() + 2 * np.log(noise) + 4)
    assert (np.diff(values) <= 0).all()
    assert values[-1] == pytest.approx(nll, abs=1e-8)
    assert em.step.stack.noise_scale[0].item() ** 2 == pytest.approx(noise, abs=1e-8)


def test_equal_generators_have_equal_likelihoods():
    """Hidden units may change places, and a ReLU unit its scale."""
    x = synthetic.circle(50, noise_scale=0.1, seed=0).train.double()
    stack = glorot((8, 8), 0, slope=0.0)
    wanted = solve(stack, x).log_evidence
    first, second, last = stack.weights
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    scale = torch.linspace(0.3, 4.0, 8, dtype=torch.float64)
    bias = stack.biases
    permuted = replace(
        stack,
        weights=(first[order], second[:, order], last),
        biases=(bias[0][order], *bias[1:]),
    )
    scaled = replace(
        stack,
        weights=(first, second * scale[:, None], last / scale),
        biases=(bias[0], bias[1] * scale, bias[2]),
    )
    for same in (permuted, scaled):
        torch.testing.assert_close(solve(same, x).log_evidence, wanted, rtol=1e-10, atol=1e-10)
    moved = replace(stack, weights=(first, second * scale[:, None], last))
    assert (solve(moved, x).log_evidence - wanted).abs().max() > 1e-3
