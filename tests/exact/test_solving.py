"""Evidence and moments against quadrature, closed forms and high precision."""

from __future__ import annotations

from itertools import pairwise

import mpmath
import pytest
import torch
from torch.distributions import MultivariateNormal

from pyrolvm.exact import (
    AffineStack,
    BoxError,
    LatentDimensionError,
    ObservationError,
    Partition,
    PartitionMismatchError,
    RegionLimitError,
    solve,
)


def assert_matches(posterior, reference, tolerance=1e-9):
    scale = reference.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert (posterior.log_evidence - reference.log_evidence).abs().max() < tolerance
    assert ((posterior.mean - reference.mean) / scale).abs().max() < tolerance
    error = posterior.covariance - reference.covariance
    assert (error / (scale[:, :, None] * scale[:, None, :])).abs().max() < tolerance
    assert (posterior.entropy - reference.entropy).abs().max() < tolerance


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize(
    ("hidden", "obs_dim", "noise"),
    [((10,), 3, 0.3), ((8, 8), 12, 0.05), ((6, 6, 6), 2, 1.0), ((16,), 4, 0.01)],
)
def test_line_matches_quadrature(
    random_stack, observe, line_quadrature, activation, hidden, obs_dim, noise
):
    stack = random_stack(1, hidden, obs_dim, noise, activation, seed=len(hidden))
    x = observe(stack, 6)
    assert_matches(solve(stack, x), line_quadrature(stack, x))


def test_trained_line_matches_quadrature(trained_line, observe, line_quadrature):
    x = observe(trained_line, 20)
    assert_matches(solve(trained_line, x), line_quadrature(trained_line, x))


@pytest.mark.parametrize(
    ("hidden", "obs_dim", "noise", "activation", "width"),
    [
        ((8,), 3, 0.3, "relu", 0.4),
        ((6, 6), 10, 0.2, "leaky_relu", 0.3),
        ((4, 4, 4), 2, 1.0, "abs", 0.4),
        ((7,), 4, 0.1, "abs", 0.15),
        ((5,), 4, 0.01, "relu", 0.02),
    ],
)
def test_plane_matches_quadrature(
    random_stack, observe, plane_quadrature, hidden, obs_dim, noise, activation, width
):
    stack = random_stack(2, hidden, obs_dim, noise, activation, seed=3)
    x = observe(stack, 2)
    posterior = solve(stack, x)
    reference = plane_quadrature(stack, x, posterior.regions.polygons, width)
    assert_matches(posterior, reference)


def test_trained_plane_matches_quadrature(trained_plane, observe, plane_quadrature):
    x = observe(trained_plane, 4)
    posterior = solve(trained_plane, x)
    reference = plane_quadrature(trained_plane, x, posterior.regions.polygons, 0.3)
    assert_matches(posterior, reference)


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("obs_dim", [1, 2, 7])
def test_linear_generator_has_the_closed_form(random_stack, observe, latent_dim, obs_dim):
    stack = random_stack(latent_dim, (), obs_dim, 0.2)
    x = observe(stack, 5)
    loading, tril = stack.weights[0].detach(), stack.prior_scale_tril
    prior, noise = tril @ tril.mT, torch.diag(stack.noise_scale**2)
    marginal = loading @ prior @ loading.mT + noise
    centre = loading @ stack.prior_loc + stack.biases[0].detach()
    gain = prior @ loading.mT @ torch.linalg.inv(marginal)
    posterior = solve(stack, x)
    expected = MultivariateNormal(centre, marginal).log_prob(x)
    torch.testing.assert_close(posterior.log_evidence, expected, rtol=1e-10, atol=1e-10)
    mean = stack.prior_loc + (x - centre) @ gain.mT
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-9, atol=1e-10)
    covariance = (prior - gain @ loading @ prior).expand(5, -1, -1)
    torch.testing.assert_close(posterior.covariance, covariance, rtol=1e-8, atol=1e-11)


def high_precision(stack, row, edges):
    """Evidence, mean and variance in one latent coordinate with 60 digits (standard prior)."""
    mpmath.mp.dps = 60
    sigma = [mpmath.mpf(s.item()) for s in stack.noise_scale]
    x = [mpmath.mpf(v.item()) for v in row]
    moments = [mpmath.mpf(0)] * 3
    for low, high in pairwise(edges):
        inside = (
            low + 1 if high == mpmath.inf else high - 1 if low == -mpmath.inf else (low + high) / 2
        )
        hidden, slopes = [inside], [mpmath.mpf(1)]
        for layer, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
            rows = [[mpmath.mpf(v) for v in line] for line in weight.tolist()]
            value = [
                mpmath.fdot(line, hidden) + mpmath.mpf(b)
                for line, b in zip(rows, bias.tolist(), strict=True)
            ]
            slope = [mpmath.fdot(line, slopes) for line in rows]
            if layer < len(stack.slopes):
                gains = [1 if v > 0 else mpmath.mpf(stack.slopes[layer]) for v in value]
                value = [g * v for g, v in zip(gains, value, strict=True)]
                slope = [g * s for g, s in zip(gains, slope, strict=True)]
            hidden, slopes = value, slope
        offset = [v - s * inside for v, s in zip(hidden, slopes, strict=True)]
        precision = 1 + sum((a / s) ** 2 for a, s in zip(slopes, sigma, strict=True))
        pull = sum(a * (v - b) / s**2 for a, v, b, s in zip(slopes, x, offset, sigma, strict=True))
        mean, scale = pull / precision, 1 / mpmath.sqrt(precision)
        level = sum(((v - b) / s) ** 2 for v, b, s in zip(x, offset, sigma, strict=True))
        kappa = mpmath.exp(-(level - pull**2 / precision) / 2) * scale
        a, b = (low - mean) / scale, (high - mean) / scale
        upper = a > 0
        tails = [mpmath.erfc((v if upper else -v) / mpmath.sqrt(2)) / 2 for v in (a, b)]
        mass = tails[0] - tails[1] if upper else tails[1] - tails[0]

        def density(v):
            return (
                mpmath.exp(-v * v / 2) / mpmath.sqrt(2 * mpmath.pi) if abs(v) < mpmath.inf else 0
            )

        first = density(a) - density(b)
        second = mass + (a * density(a) if abs(a) < mpmath.inf else 0)
        second -= b * density(b) if abs(b) < mpmath.inf else 0
        moments[0] += kappa * mass
        moments[1] += kappa * (mean * mass + scale * first)
        moments[2] += kappa * (mean**2 * mass + 2 * mean * scale * first + scale**2 * second)
    log_p = mpmath.log(moments[0]) - sum(mpmath.log(s * mpmath.sqrt(2 * mpmath.pi)) for s in sigma)
    mean = moments[1] / moments[0]
    return float(log_p), float(mean), float(moments[2] / moments[0] - mean**2)


@pytest.mark.parametrize("away", [0.0, 40.0, 1e3])
def test_line_far_off_the_manifold_matches_high_precision(random_stack, observe, away):
    stack = random_stack(1, (6,), 3, 0.05, seed=2, standard_prior=True)
    x = observe(stack, 4, away=away)
    posterior = solve(stack, x)
    weight, bias = stack.weights[0][:, 0].tolist(), stack.biases[0].tolist()
    kinks = sorted(-mpmath.mpf(b) / mpmath.mpf(w) for w, b in zip(weight, bias, strict=True))
    edges = [-mpmath.inf, *kinks, mpmath.inf]
    for n, row in enumerate(x):
        log_p, mean, variance = high_precision(stack, row, edges)
        assert posterior.log_evidence[n].item() == pytest.approx(log_p, rel=1e-14, abs=1e-11)
        scale = variance**0.5
        assert abs(posterior.mean[n].item() - mean) < 1e-9 * scale
        assert posterior.covariance[n].item() == pytest.approx(variance, rel=1e-8)


@pytest.mark.parametrize("away", [40.0, 1e3, 1e5])
def test_plane_far_off_the_manifold_stays_exact(random_stack, observe, log_joint, away):
    stack = random_stack(2, (6, 5), 5, 0.05, seed=4)
    x = observe(stack, 20, away=away)
    posterior = solve(stack, x)
    assert posterior.lost_mass.max() <= 1e-13
    z = posterior.sample(20, torch.Generator().manual_seed(0))
    error = log_joint(stack, x, z) - posterior.log_prob(z) - posterior.log_evidence
    assert (error / posterior.log_evidence).abs().max() < 1e-12
    total = torch.cat([p.values.sum()[None] for p in [posterior.region_probabilities]])
    assert total.item() == pytest.approx(20.0, rel=1e-12)


def test_plane_far_off_the_manifold_matches_quadrature(random_stack, observe, plane_quadrature):
    stack = random_stack(2, (6,), 4, 0.2, seed=4)
    x = observe(stack, 2, away=40.0)
    posterior = solve(stack, x)
    reference = plane_quadrature(stack, x, posterior.regions.polygons, 0.1)
    assert_matches(posterior, reference, 2e-9)


def test_large_box_changes_nothing(random_stack, observe):
    stack = random_stack(2, (8, 8), 4, 0.1)
    x = observe(stack, 10)
    small, large = solve(stack, x), solve(stack, x, box=60.0)
    torch.testing.assert_close(small.log_evidence, large.log_evidence, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(small.mean, large.mean, rtol=1e-10, atol=1e-12)


def test_box_grows_where_the_data_need_it(random_stack, observe):
    stack = random_stack(2, (6,), 3, 0.1)
    posterior = solve(stack, observe(stack, 2, away=100.0), box=4.0)
    assert posterior.partition.box > 4.0
    assert posterior.lost_mass.max() <= 1e-13


def test_partition_can_be_kept_while_noise_and_last_layer_change(random_stack, observe):
    stack = random_stack(2, (8,), 4, 0.1)
    partition = Partition.of(stack)
    x = observe(stack, 3)
    changed = AffineStack(
        (*stack.weights[:-1], 2 * stack.weights[-1]),
        stack.biases,
        stack.slopes,
        2 * stack.noise_scale,
        stack.prior_loc,
        stack.prior_scale_tril,
    )
    kept = solve(changed, x, partition=partition)
    torch.testing.assert_close(kept.log_evidence, solve(changed, x).log_evidence)


def test_partition_of_another_generator_is_refused(random_stack, observe):
    stack, other = random_stack(2, (8,), 4, seed=0), random_stack(2, (8,), 4, seed=1)
    with pytest.raises(PartitionMismatchError, match="another generator"):
        solve(stack, observe(stack, 2), partition=Partition.of(other))


def test_permuted_and_rescaled_units_leave_the_evidence(random_stack, observe):
    stack = random_stack(2, (8, 8), 4, 0.1)
    x = observe(stack, 10)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    gain = torch.linspace(0.3, 3.0, 8, dtype=torch.float64)
    first, second, last = stack.weights
    changed = AffineStack(
        ((gain[:, None] * first)[order], (second / gain)[:, order], last),
        ((gain * stack.biases[0])[order], *stack.biases[1:]),
        stack.slopes,
        stack.noise_scale,
        stack.prior_loc,
        stack.prior_scale_tril,
    )
    torch.testing.assert_close(
        solve(stack, x).log_evidence, solve(changed, x).log_evidence, rtol=1e-11, atol=1e-11
    )


def test_dead_and_duplicate_units_are_handled(observe):
    weight = torch.tensor([[0.0], [1.0], [1.0], [-1.0]], dtype=torch.float64)
    bias = torch.tensor([-1.0, 0.5, 0.5, -0.5], dtype=torch.float64)
    last = torch.tensor([[1.0, 2.0, -1.0, 0.0]], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    scale, eye = torch.full((1,), 0.1, dtype=torch.float64), torch.eye(1, dtype=torch.float64)
    stack = AffineStack((weight, last), (bias, zero), (0.0,), scale, zero, eye)
    posterior = solve(stack, torch.tensor([[-30.0], [0.0], [3.0]], dtype=torch.float64))
    assert posterior.num_regions == 2
    assert torch.isfinite(posterior.log_evidence).all()


def test_the_precision_of_the_generator_does_not_matter(random_stack, observe):
    stack = random_stack(1, (8,), 3)
    single = AffineStack(
        tuple(w.detach().float() for w in stack.weights),
        tuple(b.detach().float() for b in stack.biases),
        stack.slopes,
        stack.noise_scale.float(),
        stack.prior_loc.float(),
        stack.prior_scale_tril.float(),
    )
    posterior = solve(single, observe(stack, 3).float())
    assert posterior.log_evidence.dtype == torch.float64
    assert posterior.sample(2).dtype == torch.float64


def test_six_latents_are_refused(random_stack):
    with pytest.raises(LatentDimensionError, match="has 6"):
        solve(random_stack(6, (4,), 5), torch.zeros(2, 5))


def test_too_many_regions_are_refused_with_an_estimate(random_stack):
    stack = random_stack(2, (16, 16), 5)
    with pytest.raises(RegionLimitError, match="expect about"):
        solve(stack, torch.zeros(1, 5), max_regions=100)
    with pytest.raises(RegionLimitError, match="max_regions is 5"):
        solve(random_stack(1, (16,), 5), torch.zeros(1, 5), max_regions=5)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_bad_observations_are_refused(random_stack, latent_dim):
    stack = random_stack(latent_dim, (4,), 5)
    with pytest.raises(ObservationError, match=r"\(N, 5\)"):
        solve(stack, torch.zeros(2, 4))
    x = torch.zeros(3, 5)
    x[1, 2] = torch.nan
    with pytest.raises(ObservationError, match="row 1"):
        solve(stack, x)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_an_empty_batch_is_served(random_stack, latent_dim):
    posterior = solve(random_stack(latent_dim, (4,), 5), torch.zeros(0, 5))
    assert posterior.mean.shape == (0, latent_dim)
    assert posterior.covariance.shape == (0, latent_dim, latent_dim)
    assert posterior.sample(3).shape == (3, 0, latent_dim)


@pytest.mark.parametrize("size", [1e10, 1e30])
def test_data_too_large_for_double_precision_are_refused(size):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    with pytest.raises(BoxError, match="Rescale the data"):
        solve(AffineStack.from_sequential(net, 0.5), size * torch.randn(5, 4))


def test_a_generator_without_biases_is_exact_where_all_its_regions_meet(plane_quadrature):
    """At x = 0 the posterior's mean lies on the vertex that all regions share."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 5, bias=False), torch.nn.ReLU(), torch.nn.Linear(5, 3, bias=False)
    ).double()
    stack = AffineStack.from_sequential(net.requires_grad_(False), 0.4)
    x = torch.zeros(1, 3, dtype=torch.float64)
    found = solve(stack, x)
    expected = plane_quadrature(stack, x, found.regions.polygons, 0.15)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=1e-8)
