"""The E-step and draws for three latents: cells of one affine generator, and deep ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import nn

from pyrolvm.exact import AffineStack
from pyrolvm.exact.expectation import expect
from pyrolvm.exact.folding import fold
from pyrolvm.exact.partition import find_partition
from pyrolvm.exact.sampling import draw

BOX = 9.5


def affine(obs_dim, noise, *, seed, width=6):
    """An affine generator that its ReLU units cut into cells all the same."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(width, 3, generator=random, dtype=torch.float64)
    bias = 0.7 * torch.randn(width, generator=random, dtype=torch.float64)
    read = 0.4 * torch.randn(obs_dim, width, generator=random, dtype=torch.float64)
    hidden, last = nn.Linear(3, 2 * width).double(), nn.Linear(2 * width, obs_dim).double()
    with torch.no_grad():
        # relu(a) - relu(-a) = a
        hidden.weight.copy_(torch.cat([weight, -weight]))
        hidden.bias.copy_(torch.cat([bias, -bias]))
        last.weight.copy_(torch.cat([read, -read], 1))
        last.bias.zero_()
    stack = AffineStack.from_sequential(nn.Sequential(hidden, nn.ReLU(), last), noise)
    return stack, read @ weight, read @ bias


def solve(stack, x):
    folded = fold(stack)
    return expect(folded, x.numpy(), find_partition(folded, BOX, 100_000))


def gaussian_posterior(matrix, offset, noise, x):
    """Log evidence, mean and covariance of the linear Gaussian model."""
    size = len(offset)
    spread = noise**2 * torch.eye(size, dtype=torch.float64) + matrix @ matrix.mT
    evidence = torch.distributions.MultivariateNormal(offset, spread).log_prob(x)
    precision = torch.eye(3, dtype=torch.float64) + matrix.mT @ matrix / noise**2
    covariance = torch.linalg.inv(precision)
    return evidence, (x - offset) @ matrix @ covariance / noise**2, covariance


@pytest.mark.parametrize(("noise", "away"), [(0.5, 0.0), (0.1, 5.0)])
def test_cells_of_an_affine_generator_sum_to_its_gaussian(noise, away):
    stack, matrix, offset = affine(4, noise, seed=3)
    random = torch.Generator().manual_seed(1)
    x = torch.randn(12, 3, generator=random, dtype=torch.float64) @ matrix.mT + offset
    x += away * noise * torch.randn(12, 4, generator=random, dtype=torch.float64)
    evidence, mean, covariance = gaussian_posterior(matrix, offset, noise, x)
    found = solve(stack, x)
    assert len(found.region) > 4 * len(x)
    limit = 1e-12 * (1 + np.abs(evidence.numpy()).max())
    np.testing.assert_allclose(found.log_evidence + found.constant, evidence, rtol=0, atol=limit)
    first, second = found.moments()
    np.testing.assert_allclose(first, mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(second, covariance.expand(12, 3, 3), rtol=0, atol=1e-10)


def test_draws_from_an_affine_generator_are_normal():
    stack, matrix, offset = affine(4, 0.6, seed=5)
    x = torch.tensor([[0.4, -0.2, 0.5, 0.1]], dtype=torch.float64)
    _, mean, covariance = gaussian_posterior(matrix, offset, 0.6, x)
    points = draw(solve(stack, x), 20_000, 3)[:, 0]
    standard = np.linalg.solve(np.linalg.cholesky(covariance.numpy()), (points - mean.numpy()).T)
    for direction in np.vstack([np.eye(3), np.ones((1, 3)) / np.sqrt(3)]):
        assert stats.kstest(direction @ standard, "norm").pvalue > 1e-5
    np.testing.assert_allclose(np.cov(standard), np.eye(3), rtol=0, atol=5 * np.sqrt(2 / 20_000))


@pytest.mark.parametrize(("noise", "away"), [(0.3, 0.0), (0.1, 15.0)])
def test_draws_of_deep_generators_have_the_exact_moments(random_stack, observe, noise, away):
    stack = random_stack(3, (5, 5), 4, noise)
    x = observe(stack, 6, away=away)
    found = solve(stack, x)
    mean, covariance = found.moments()
    num = 3000
    points = draw(found, num, 7)
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2) / num)
    assert np.abs((points.mean(0) - mean) / error).max() < 5
    rest = points - mean
    products = rest[..., :, None] * rest[..., None, :]
    error = products.std(0) / np.sqrt(num)
    assert np.abs((products.mean(0) - covariance) / error).max() < 5
    np.testing.assert_array_equal(points, draw(found, num, 7))


def given_first(stack, first):
    """The generator of the other two latents, given the first one."""
    layers = []
    for k, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        layer = nn.Linear(weight.shape[1] - (k == 0), weight.shape[0]).double()
        with torch.no_grad():
            layer.weight.copy_(weight[:, 1:] if k == 0 else weight)
            layer.bias.copy_(bias + first * weight[:, 0] if k == 0 else bias)
        layers += [layer, nn.ReLU()]
    return AffineStack.from_sequential(nn.Sequential(*layers[:-1]), stack.noise_scale)


def plane_quadrature(stack, x, vertices):
    """One latent by Gauss-Legendre between the vertices, the other two by the exact engine.

    Returns:
        Log evidence, and the mean of the first latent.
    """
    cuts = vertices[np.linalg.norm(vertices, axis=1) < 9.0, 0]
    cuts = np.unique(np.concatenate([cuts, np.linspace(-8.5, 8.5, 33)]).round(10))
    cuts = cuts[np.abs(cuts) <= 8.5]
    node, weight = np.polynomial.legendre.leggauss(12)
    places = (cuts[:-1, None] + 0.5 * np.diff(cuts)[:, None] * (node + 1)).ravel()
    shares = (0.5 * np.diff(cuts)[:, None] * weight).ravel() * stats.norm.pdf(places)
    terms = []
    for place in places:
        folded = fold(given_first(stack, place))
        plane = expect(folded, x.numpy(), find_partition(folded, BOX, 10_000))
        terms.append(plane.log_evidence + plane.constant)
    log_terms = np.array(terms) + np.log(shares)[:, None]
    log_evidence = logsumexp(log_terms, axis=0)
    return log_evidence, np.exp(log_terms - log_evidence).T @ places


def check_planes(stack, x):
    found = solve(stack, x)
    expected, mean = plane_quadrature(stack, x, found.partition.vertices)
    limit = 1e-11 * (1 + np.abs(expected).max())
    np.testing.assert_allclose(found.log_evidence + found.constant, expected, rtol=0, atol=limit)
    np.testing.assert_allclose(found.moments()[0][:, 0], mean, rtol=0, atol=1e-9)
    return found


@pytest.mark.parametrize(("noise", "away"), [(0.4, 0.0), (0.2, 8.0)])
def test_evidence_matches_quadrature_over_exact_planes(random_stack, observe, noise, away):
    stack = random_stack(3, (4, 2), 4, noise, standard_prior=True)
    check_planes(stack, observe(stack, 3, away=away))


def test_all_cells_may_meet_at_the_mean():
    """Without biases, all kinks pass through 0, where the datum 0 puts every Gaussian."""
    random = torch.Generator().manual_seed(4)
    hidden, last = nn.Linear(3, 4, bias=False).double(), nn.Linear(4, 3, bias=False).double()
    with torch.no_grad():
        hidden.weight.normal_(generator=random)
        last.weight.normal_(generator=random)
    stack = AffineStack.from_sequential(nn.Sequential(hidden, nn.ReLU(), last), 0.5)
    found = check_planes(stack, torch.zeros(1, 3, dtype=torch.float64))
    assert len(found.region) == found.partition.num_regions == 14


def test_without_data_the_cells_have_the_prior_mass_of_the_box(random_stack):
    stack = random_stack(3, (6, 6), 4, 0.3)
    folded = fold(stack)
    partition = find_partition(folded, BOX, 100_000)
    found = pairs_without_data(partition)
    np.testing.assert_allclose(found[0], 3 * np.log1p(-2 * stats.norm.sf(BOX)), rtol=0, atol=1e-12)
    assert found[2][0] == len(found[3]) > 50
    probability, anchors = found[4][:, 0], partition.anchors[found[3]]
    point = anchors + found[4][:, 1:4]
    np.testing.assert_allclose(probability @ point, 0, atol=1e-12)
    square = np.empty((len(point), 3, 3))
    rows, columns = np.triu_indices(3)
    square[:, rows, columns] = square[:, columns, rows] = found[4][:, 4:]
    square += point[:, :, None] * point[:, None, :]
    np.testing.assert_allclose(np.tensordot(probability, square, 1), np.eye(3), atol=1e-12)
    assert found[1][0] == pytest.approx(-1.5, abs=1e-12)


def pairs_without_data(partition):
    """One datum of no coordinates: the posterior is the prior."""
    from pyrolvm.exact.polytopes.polyhedron_kernel import polyhedron_pairs

    regions, facets = partition.num_regions, partition.facets
    owner = np.repeat(np.arange(regions), partition.count)
    corners = partition.vertices - partition.anchors[owner]
    owner = np.repeat(np.arange(regions), facets.count)
    offsets = facets.offsets - (facets.normals * partition.anchors[owner]).sum(1)
    eye = np.broadcast_to(np.eye(3), (regions, 3, 3)).copy()
    return polyhedron_pairs(
        np.zeros((1, 0)), np.zeros(1), 40.0, np.zeros((0, 4 * regions)), np.zeros((regions, 0)),
        partition.anchors, eye, eye, np.zeros(regions), corners, partition.anchors.copy(),
        (partition.anchors**2).sum(1), partition.first, partition.count, facets.first,
        facets.count, facets.normals, offsets, facets.corner_first, facets.corner_count,
        facets.corners,
    )  # fmt: skip
