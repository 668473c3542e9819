"""One latent: distribution function, quantiles and highest-density sets against second routes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pyrolvm.exact import (
    AffineStack,
    LatentDimensionError,
    ObservationError,
    ProbabilityError,
    solve,
)

CASES = [
    ((10,), 3, 0.3, "relu", 0.0),
    ((8, 8), 12, 0.05, "leaky_relu", 5.0),
    ((6,), 2, 1.0, "abs", 0),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[2]}-{case[3]}")
def case(request, random_stack, observe):
    hidden, obs_dim, noise, activation, away = request.param
    stack = random_stack(1, hidden, obs_dim, noise, activation, seed=11)
    x = observe(stack, 4, away=away)
    return stack, x, solve(stack, x)


def zigzag(noise: float) -> AffineStack:
    """A generator with four pieces whose weights are exact in binary."""
    return AffineStack(
        weights=(
            torch.ones(3, 1).double(),
            torch.tensor([[2.0, -4.0, 4.0], [1.0, 0.5, -0.25]]).double(),
        ),
        biases=(torch.tensor([1.0, 0.0, -1.0]).double(), torch.tensor([0.0, 0.5]).double()),
        slopes=(0.0,),
        noise_scale=torch.tensor(noise, dtype=torch.float64),
        prior_loc=torch.zeros(1, dtype=torch.float64),
        prior_scale_tril=torch.eye(1, dtype=torch.float64),
    )  # fmt: skip


def high_precision(stack: AffineStack, x: list[float], cut: float) -> tuple[float, float, float]:
    """Log p(x) and log tails at a cut in 80 digits: kinks at -1, 0, 1, each piece a Gaussian."""
    with mpmath.workdps(80):
        mp = mpmath.mpf
        first = [(mp(1), mp(b)) for b in stack.biases[0].tolist()]
        last, bias = stack.weights[1].tolist(), stack.biases[1].tolist()
        sigma = mp(stack.noise_scale[0].item())
        kinks = sorted([mp(-1), mp(0), mp(1), mp(cut)])
        edges = [-mpmath.inf, *kinks, mpmath.inf]
        masses = []
        for low, high in pairwise(edges):
            inside = (max(low, mp(-50)) + min(high, mp(50))) / 2 if low != high else mp(0)
            on = [w * inside + b > 0 for w, b in first]
            precision, linear, constant = mp(1), mp(0), mp(0)
            for row, offset, value in zip(last, bias, x, strict=True):
                slope = sum(mp(v) * w for v, (w, _), o in zip(row, first, on, strict=True) if o)
                rest = mp(value) - mp(offset)
                rest -= sum(mp(v) * b for v, (_, b), o in zip(row, first, on, strict=True) if o)
                precision += slope**2 / sigma**2
                linear += slope * rest / sigma**2
                constant += rest**2 / sigma**2
            mean, root = linear / precision, mpmath.sqrt(precision / 2)
            a, b = (low - mean) * root, (high - mean) * root
            share = (
                (mpmath.erfc(a) - mpmath.erfc(b)) / 2
                if a > 0
                else (mpmath.erfc(-b) - mpmath.erfc(-a)) / 2
            )
            norm = (2 * mpmath.pi * sigma**2) ** mp(len(x)) * precision
            masses.append(
                mpmath.exp(-(constant - linear**2 / precision) / 2) / mpmath.sqrt(norm) * share
            )
        at, total = edges.index(mp(cut)), sum(masses)
        tails = sum(masses[:at]) / total, sum(masses[at:]) / total
        logs = mpmath.log(total), mpmath.log(tails[0]), mpmath.log(tails[1])
        return float(logs[0]), float(logs[1]), float(logs[2])


@pytest.mark.parametrize("noise", [0.5, 0.01])
@pytest.mark.parametrize("x", [(1.0, 0.25), (60.0, -35.0), (-400.0, 90.0)])
@pytest.mark.parametrize("cut", [0.3, -1.25, 4.0, -30.0])
def test_far_tails_and_evidence_agree_with_eighty_digits(noise, x, cut):
    stack = zigzag(noise)
    posterior = solve(stack, torch.tensor([x], dtype=torch.float64))
    log_p, log_below, log_above = high_precision(stack, list(x), cut)
    assert posterior.log_evidence.item() == pytest.approx(log_p, rel=1e-12, abs=1e-12)
    below, above = posterior.log_tails(torch.tensor([cut], dtype=torch.float64))
    assert below.item() == pytest.approx(log_below, rel=1e-11, abs=1e-11)
    assert above.item() == pytest.approx(log_above, rel=1e-11, abs=1e-11)


def test_distribution_function_agrees_with_adaptive_quadrature(case, log_joint):
    stack, x, posterior = case
    kinks = posterior.regions.breakpoints.numpy()
    for n in range(2):
        low, high = posterior.interval(0.999)[n].tolist()
        middle = 0.3 * low + 0.7 * high

        def density(t, n=n):
            z = torch.tensor([[t]], dtype=torch.float64)
            log_density = log_joint(stack, x[n : n + 1], z) - posterior.log_evidence[n]
            return log_density.exp().item()

        inside = kinks[(kinks > low) & (kinks < middle)]
        edges = [low, *inside, middle]
        share = sum(
            integrate.quad(density, a, b, epsabs=1e-13, epsrel=1e-11)[0]
            for a, b in pairwise(edges)
        )
        points = torch.tensor([low, middle], dtype=torch.float64)[:, None].expand(2, 4)
        found = posterior.cdf(points)[:, n]
        assert (found[1] - found[0]).item() == pytest.approx(share, abs=1e-11)


def test_tails_complement_each_other(case):
    _, _, posterior = case
    below, above = posterior.log_tails(posterior.sample(50)[..., 0])
    torch.testing.assert_close(below.exp() + above.exp(), torch.ones_like(below))
    ends = torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)[:, None].expand(2, 4)
    assert posterior.cdf(ends).tolist() == [[0.0] * 4, [1.0] * 4]


def test_quantiles_invert_the_distribution_function(case):
    _, _, posterior = case
    z = posterior.sample(200, torch.Generator().manual_seed(0))[..., 0]
    torch.testing.assert_close(posterior.icdf(posterior.cdf(z)), z, rtol=1e-9, atol=1e-11)
    q = torch.tensor([1e-300, 1e-100, 1e-10, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9], dtype=torch.float64)
    z = posterior.quantile(q)
    assert z.shape == (8, 4)
    assert (z.diff(dim=0) > 0).all()
    below, _ = posterior.log_tails(z)
    torch.testing.assert_close(below, q.log()[:, None].expand(8, 4), rtol=1e-12, atol=1e-12)
    assert torch.equal(posterior.quantile(0.5), z[5])
    assert posterior.quantile(0.0).tolist() == [-torch.inf] * 4
    assert posterior.quantile(1.0).tolist() == [torch.inf] * 4


def test_draws_are_uniform_under_the_distribution_function(case):
    _, _, posterior = case
    shares = posterior.cdf(posterior.sample(4000, torch.Generator().manual_seed(3))[..., 0])
    for n in range(4):
        assert stats.kstest(shares[:, n].numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("away", [200.0, 1e5])
def test_quantiles_far_off_the_manifold_follow_the_draws(random_stack, observe, away):
    stack = random_stack(1, (8, 8), 4, 0.02, seed=2)
    posterior = solve(stack, observe(stack, 5, away=away))
    z = posterior.sample(4000, torch.Generator().manual_seed(4))[..., 0]
    shares = posterior.cdf(z)
    for n in range(5):
        assert stats.kstest(shares[:, n].numpy(), "uniform").pvalue > 1e-3
    q = torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64)
    back = posterior.cdf(posterior.quantile(q))
    torch.testing.assert_close(back, q[:, None].expand(3, 5), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mass", [1e-6, 0.5, 0.9, 1 - 1e-9])
def test_densest_sets_hold_their_mass_at_one_level(case, mass):
    _, _, posterior = case
    found, central = posterior.highest_density(mass), posterior.interval(mass)
    assert (found.length <= (central[:, 1] - central[:, 0]) * (1 + 1e-6)).all()
    for n in range(4):
        ends = found.of(n)
        points = ends[..., None].expand(-1, 2, 4)
        below, above = (tail[..., n].exp() for tail in posterior.log_tails(points))
        inside = torch.where(
            above[:, 0] < 0.5, above[:, 0] - above[:, 1], below[:, 1] - below[:, 0]
        ).sum()
        assert inside.item() == pytest.approx(mass, rel=1e-8)
        level = posterior.log_prob(points[..., None])[..., n]
        torch.testing.assert_close(level, found.log_level[n].expand_as(level), rtol=0, atol=2e-7)


def test_a_bimodal_posterior_has_a_densest_set_of_two_intervals():
    fold = AffineStack(
        (torch.eye(1).double(), torch.eye(1).double()), (torch.zeros(1).double(),) * 2, (-1.0,),
        torch.tensor(0.1, dtype=torch.float64), torch.zeros(1).double(), torch.eye(1).double(),
    )  # fmt: skip
    found = solve(fold, torch.tensor([[1.5], [0.0]]).double()).highest_density(0.9)
    assert found.num_intervals.tolist() == [2, 1]
    ends = found.of(0)
    torch.testing.assert_close(ends[0], -ends[1].flip(0))
    # one half is a Gaussian with mean 1.5 / 1.01 and variance 0.01 / 1.01, the cut is far away
    half = stats.norm(1.5 / 1.01, (0.01 / 1.01) ** 0.5).interval(0.9)
    np.testing.assert_allclose(ends[1].numpy(), half, rtol=1e-12)
    assert found.of(1).shape == (1, 2)


def test_a_mixture_mixes_distribution_functions():
    stack = zigzag(0.4)
    mixed = replace(
        stack,
        prior_loc=torch.tensor([[-1.0], [1.5]]).double(),
        prior_scale_tril=torch.tensor([[[0.3]], [[0.7]]]).double(),
        prior_logits=torch.tensor([0.2, -0.4]).double(),
    )
    posterior = solve(mixed, torch.tensor([[1.0, 1.0], [3.0, 0.0], [30.0, 9.0]]).double())
    z = posterior.sample(4000, torch.Generator().manual_seed(5))[..., 0]
    shares = posterior.cdf(z)
    for n in range(3):
        assert stats.kstest(shares[:, n].numpy(), "uniform").pvalue > 1e-3
    torch.testing.assert_close(posterior.icdf(shares[:50]), z[:50], rtol=1e-7, atol=1e-9)
    q = torch.tensor([0.0, 1e-30, 0.5, 1.0], dtype=torch.float64)
    back, _ = posterior.log_tails(posterior.quantile(q))
    torch.testing.assert_close(back, q.log()[:, None].expand(4, 3), rtol=1e-10, atol=1e-10)


def test_the_rank_of_the_truth_is_uniform(random_stack):
    """Simulation-based calibration from end to end: z, x given z, rank of z given x."""
    stack = random_stack(1, (8, 8), 3, 0.3, seed=4)
    random, size = torch.Generator().manual_seed(6), 4000
    z = torch.randn(size, 1, generator=random, dtype=torch.float64)
    z = stack.prior_loc + z @ stack.prior_scale_tril.mT
    noise = torch.randn(size, 3, generator=random, dtype=torch.float64)
    x = (stack.forward(z) + stack.noise_scale * noise).detach()
    shares = solve(stack, x).cdf(z[:, 0]).numpy()
    counts = np.histogram(shares, 20, (0, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_rank_of_the_truth_among_draws_is_uniform_in_two_dimensions(random_stack):
    stack = random_stack(2, (8,), 3, 0.3, seed=4)
    random, size = torch.Generator().manual_seed(7), 2000
    z = torch.randn(size, 2, generator=random, dtype=torch.float64)
    z = stack.prior_loc + z @ stack.prior_scale_tril.mT
    noise = torch.randn(size, 3, generator=random, dtype=torch.float64)
    x = (stack.forward(z) + stack.noise_scale * noise).detach()
    draws = solve(stack, x).sample(19, random)
    for value, among in (
        (z[:, 0], draws[..., 0]),
        (z[:, 1], draws[..., 1]),
        (z.norm(dim=1), draws.norm(dim=2)),
    ):
        counts = np.bincount((among < value).sum(0).numpy(), minlength=20)
        assert stats.chisquare(counts).pvalue > 1e-3


def test_questions_out_of_range_are_refused(case, random_stack, observe):
    _, _, posterior = case
    with pytest.raises(ProbabilityError, match=r"from 0 to 1, but got 1\.5"):
        posterior.quantile(1.5)
    with pytest.raises(ProbabilityError, match="strictly between 0 and 1, but got 1"):
        posterior.highest_density(1.0)
    with pytest.raises(ObservationError, match=r"needs points of shape \(..., 4\)"):
        posterior.cdf(torch.zeros(3))
    with pytest.raises(ObservationError, match="not NaN"):
        posterior.cdf(torch.full((4,), torch.nan))
    plane = random_stack(2, (4,), 3)
    for ask in ("interval", "highest_density", "quantile"):
        with pytest.raises(LatentDimensionError, match=r"one latent coordinate, but this .* 2"):
            getattr(solve(plane, observe(plane, 2)), ask)(0.5)
