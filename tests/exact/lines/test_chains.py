"""Chains of line updates against posteriors that are known by another route."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal, Normal

from pyrolvm.diagnostics.chains import chain_ess, chain_rhat
from pyrolvm.exact import AffineStack, ObservationError, solve
from pyrolvm.exact.lines import LineChains


def run(stack, x, num=400, chains=4, warmup=100, thin=1, seed=0):
    found = LineChains.start(stack, x, chains, seed)
    found.warm_up(warmup)
    return torch.from_numpy(found.draw(num, thin))


def assert_moments(draws, mean, second):
    """First and second moments within 5 standard errors, by the effective sample size of each."""
    assert chain_rhat(draws).max() < 1.03
    products = (draws[..., :, None] * draws[..., None, :]).flatten(-2)
    for values, truth in ((draws, mean), (products, second.flatten(-2))):
        error = values.std((0, 1)) / chain_ess(values, "mean").sqrt()
        assert ((values.mean((0, 1)) - truth).abs() < 5 * error).all()
        assert (error < 0.2 * values.std((0, 1))).all()


def second_moment(mean, covariance):
    return covariance + mean[..., :, None] * mean[..., None, :]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize("dim", [1, 2])
def test_moments_are_those_of_the_enumeration(random_stack, observe, dim, activation):
    stack = random_stack(dim, (8, 6), 3, 0.25, activation, seed=dim)
    x = observe(stack, 6)
    exact = solve(stack, x)
    assert_moments(run(stack, x), exact.mean, second_moment(exact.mean, exact.covariance))


def test_modes_that_lie_apart_get_their_shares():
    """x = |z| + noise in two latents: four modes, 30 standard deviations apart."""
    eye = torch.eye(2, dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    stack = AffineStack(
        (eye, eye), (zero, zero), (-1.0,), torch.tensor(0.05).double(),
        torch.tensor([0.2, -0.1]).double(), eye,
    )  # fmt: skip
    x = torch.tensor([[0.8, 0.7]], dtype=torch.float64)
    draws = run(stack, x, num=1500)
    exact = solve(stack, x)
    assert_moments(draws, exact.mean, second_moment(exact.mean, exact.covariance))
    quadrants = 2 * (draws[..., 0] > 0) + (draws[..., 1] > 0)
    for quadrant in range(4):
        inside = (quadrants == quadrant).double()
        error = inside.std() / chain_ess(inside, "mean").sqrt()
        assert inside.mean() > 0.05
        sides = (quadrant // 2, quadrant % 2)
        truth = 1.0
        for side, (a, loc) in zip(sides, ((0.8, 0.2), (0.7, -0.1)), strict=True):
            mass = quadrant_mass(a, loc)
            truth *= mass if side else 1 - mass
        assert abs(inside.mean() - truth) < 5 * error


def quadrant_mass(x, loc, noise=0.05):
    """P(z > 0 | x = |z| + noise) for z ~ N(loc, 1)."""
    variance = 1 / (1 + 1 / noise**2)
    log_mass = []
    for sign in (1.0, -1.0):
        mean = variance * (sign * x / noise**2 + loc)
        log_mass.append(
            stats.norm.logpdf(sign * x, loc, np.sqrt(1 + noise**2))
            + stats.norm.logsf(-sign * mean / np.sqrt(variance))
        )
    return float(np.exp(log_mass[0] - np.logaddexp(*log_mass)))


def test_one_update_in_one_latent_is_an_independent_exact_draw(random_stack, observe):
    """Kolmogorov-Smirnov against the exact distribution function, and no autocorrelation."""
    stack = random_stack(1, (8, 8), 3, 0.4, "abs", seed=8)
    x = observe(stack, 2)
    draws = run(stack, x, num=1500, chains=1, warmup=0)[0, :, :, 0]
    exact = solve(stack, x)
    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = exact.log_prob(grid[:, None, None].expand(-1, 2, 1)).exp()
    for n in range(2):
        middle = 0.5 * (density[1:, n] + density[:-1, n]) * (grid[1] - grid[0])
        cdf = np.concatenate([[0.0], middle.cumsum(0).numpy()])
        assert cdf[-1] == pytest.approx(1, abs=1e-6)
        uniform = np.interp(draws[:, n], grid, cdf)
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(uniform[1:], uniform[:-1])[0, 1]) < 5 / 1500**0.5


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
def test_three_latents_agree_with_importance_sampling(random_stack, observe, activation):
    stack = random_stack(3, (8, 6), 3, 0.7, activation, seed=3)
    x = observe(stack, 2)
    draws = run(stack, x, num=700)
    prior = MultivariateNormal(stack.prior_loc, scale_tril=stack.prior_scale_tril)
    random = torch.Generator().manual_seed(1)
    z = torch.randn(150_000, 3, generator=random, dtype=torch.float64)
    z = prior.mean + z @ stack.prior_scale_tril.mT
    assert_weighted(draws, z, stack, x)


def assert_weighted(draws, z, stack, x):
    """Means and squares agree with draws of the prior, weighted by the likelihood."""
    output = stack.forward(z).detach()
    for n in range(len(x)):
        log_weight = Normal(output, stack.noise_scale).log_prob(x[n]).sum(-1)
        share = log_weight.softmax(0)
        assert 1 / share.square().sum() > 1000
        for power in (1, 2):
            values = draws[:, :, n] ** power
            truth = share @ z**power
            theirs = ((share[:, None] * (z**power - truth)) ** 2).sum(0)
            ours = values.var((0, 1)) / chain_ess(values, "mean")
            error = (theirs + ours).sqrt()
            assert ((values.mean((0, 1)) - truth).abs() < 5 * error).all()


def test_ten_latents_of_a_linear_generator_have_the_closed_form(random_stack, observe):
    stack = random_stack(10, (), 14, 0.2, seed=4)
    x = observe(stack, 3)
    weight = stack.weights[0].detach() / stack.noise_scale[:, None]
    precision = torch.cholesky_inverse(stack.prior_scale_tril) + weight.mT @ weight
    covariance = torch.linalg.inv(precision)
    rest = (x - stack.biases[0].detach()) / stack.noise_scale
    inner = torch.cholesky_solve(stack.prior_loc[:, None], stack.prior_scale_tril)[:, 0]
    mean = (rest @ weight + inner) @ covariance
    draws = run(stack, x, num=500, warmup=60)
    assert_moments(draws, mean, second_moment(mean, covariance.expand(3, 10, 10)))
    # directions suit a normal posterior at once: sweeps are independent
    assert chain_ess(draws).min() > 0.6 * 4 * 500


def mixture(stack, components, seed=3):
    random = torch.Generator().manual_seed(seed)
    dim = stack.latent_dim
    factors = 0.3 * torch.randn(components, dim, dim, generator=random, dtype=torch.float64)
    factors = factors.tril(-1) + torch.diag_embed(0.4 + factors.diagonal(dim1=-2, dim2=-1).abs())
    loc = 1.5 * torch.randn(components, dim, generator=random, dtype=torch.float64)
    logits = torch.randn(components, generator=random, dtype=torch.float64)
    return replace(stack, prior_loc=loc, prior_scale_tril=factors, prior_logits=logits)


@pytest.mark.parametrize("activation", ["relu", "abs"])
def test_a_mixture_prior_agrees_with_quadrature(random_stack, observe, activation):
    plain = random_stack(1, (6, 6), 2, 0.5, activation, seed=6)
    stack, x = mixture(plain, 3), observe(plain, 3)
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    each = Normal(stack.prior_loc[:, 0], stack.prior_scale_tril[:, 0, 0])
    log_prior = (each.log_prob(z[:, None]) + stack.prior_logits.log_softmax(0)).logsumexp(1)
    log_likelihood = Normal(stack.forward(z[:, None])[:, None], stack.noise_scale).log_prob(x)
    share = (log_prior[:, None] + log_likelihood.sum(-1)).detach().softmax(0)
    mean, square = z @ share, z.square() @ share
    assert_moments(run(stack, x), mean[:, None], square[:, None, None])


def test_a_mixture_prior_agrees_with_importance_sampling(random_stack, observe):
    plain = random_stack(3, (8,), 3, 0.8, seed=6)
    stack, x = mixture(plain, 2, seed=5), observe(plain, 2)
    random = torch.Generator().manual_seed(2)
    component = torch.multinomial(
        stack.prior_logits.softmax(0), 150_000, replacement=True, generator=random
    )
    noise = torch.randn(150_000, 3, 1, generator=random, dtype=torch.float64)
    z = stack.prior_loc[component] + (stack.prior_scale_tril[component] @ noise)[..., 0]
    assert_weighted(run(stack, x, num=700), z, stack, x)


def test_ranks_of_simulated_latents_are_uniform(random_stack):
    """Prior z, then x, then the rank of z among posterior draws, in five latents."""
    stack = random_stack(5, (8, 8), 4, 0.3, "leaky_relu", seed=9)
    random = torch.Generator().manual_seed(0)
    size, bins = 200, 10
    noise = torch.randn(size, 5, generator=random, dtype=torch.float64)
    z = stack.prior_loc + noise @ stack.prior_scale_tril.mT
    eps = torch.randn(size, 4, generator=random, dtype=torch.float64)
    x = (stack.forward(z) + stack.noise_scale * eps).detach()
    draws = run(stack, x, num=19, chains=1, warmup=40, thin=4)[0]
    for values, truth in ((draws, z), (draws.square().sum(-1, keepdim=True), z.square().sum(-1))):
        ranks = (values < truth.reshape(size, -1)).sum(0)
        counts = torch.stack([(ranks // 2 == b).sum(0) for b in range(bins)]).numpy()
        assert counts.sum(0).tolist() == [size] * counts.shape[1]
        assert stats.chisquare(counts).pvalue.min() > 1e-3


def test_the_same_seed_gives_the_same_draws_on_any_number_of_threads(random_stack, observe):
    stack = random_stack(3, (8,), 4, 0.2, seed=1)
    x = observe(stack, 7)
    one = run(stack, x, num=20, warmup=30, seed=3)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        many = run(stack, x, num=20, warmup=30, seed=3)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, many)
    assert torch.equal(run(stack, x[:2], num=20, warmup=30, seed=3), one[:, :, :2])
    assert not torch.equal(run(stack, x, num=20, warmup=30, seed=4), one)


def test_chains_and_data_have_streams_of_their_own(random_stack, observe):
    stack = random_stack(2, (8,), 4, 0.2, seed=1)
    x = observe(stack, 1).expand(2, 4)
    draws = run(stack, x, num=50)
    flat = draws.permute(0, 2, 1, 3).reshape(8, -1)
    assert (torch.corrcoef(flat) - torch.eye(8)).abs().max() < 0.6


def test_a_copy_goes_on_alone(random_stack, observe):
    stack = random_stack(2, (8,), 4, 0.2, seed=1)
    chains = LineChains.start(stack, observe(stack, 2), 2, 0)
    other = chains.copy()
    first = chains.draw(5)
    assert np.array_equal(other.draw(5), first)
    assert not np.array_equal(chains.draw(5), first)


def test_no_data_give_no_draws(random_stack):
    stack = random_stack(2, (8,), 4, 0.2, seed=1)
    assert run(stack, torch.empty(0, 4), num=3).shape == (4, 3, 0, 2)


def test_bad_observations_are_refused(random_stack, observe):
    stack = random_stack(2, (8,), 4, 0.2, seed=1)
    with pytest.raises(ObservationError, match=r"shape \(N, 4\)"):
        run(stack, torch.zeros(3, 5))
    with pytest.raises(ObservationError, match="finite observations"):
        run(stack, torch.full((3, 4), torch.nan))
    with pytest.raises(ObservationError, match="overflows"):
        run(stack, torch.full((3, 4), 1e200, dtype=torch.float64), num=2)
