"""E-step and draws in four and five latents, against closed forms and importance sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, multivariate_t

from pyrolvm.exact import AffineStack
from pyrolvm.exact.expectation import Expectation, expect
from pyrolvm.exact.folding import FoldedGenerator, fold
from pyrolvm.exact.geometry import whiten
from pyrolvm.exact.partition import Partition, find_partition
from pyrolvm.exact.polytopes.lattice_kernel import lattice_pairs
from pyrolvm.exact.polytopes.lattice_sampling import draw_polytopes

TARGET = 1e-3

KERNEL: Callable[..., tuple] = lattice_pairs
DRAW: Callable[..., int] = draw_polytopes


class Problem(NamedTuple):
    """One generator whose regions all carry the same affine map, and the kernels' arrays."""

    partition: Partition
    arrays: dict[str, np.ndarray]
    matrix: np.ndarray
    offset: np.ndarray


def one_map(random_stack: Callable[..., AffineStack], dim: int, width: int) -> Problem:
    """Cells of a small network, all with f(u) = A u + b."""
    partition = find_partition(fold(random_stack(dim, (4,), 3, seed=dim)), 9.0, 1000)
    random = np.random.default_rng(dim)
    matrix, offset = random.standard_normal((width, dim)), random.standard_normal(width)
    facets, regions = partition.facets, partition.num_regions
    assert facets is not None
    q, c = np.linalg.qr(np.r_[matrix, np.eye(dim)])
    sign = np.sign(np.diag(c))
    q, c = q * sign, c * sign[:, None]
    anchors = partition.anchors
    values = anchors @ matrix.T + offset
    basis = np.broadcast_to(q.T, (regions, dim, width + dim)).copy()
    owner = np.repeat(np.arange(regions), facets.count)
    normals = facets.normals @ np.linalg.inv(c)
    length = np.linalg.norm(normals, axis=1)
    room = facets.offsets - (facets.normals * anchors[owner]).sum(1)
    corner = np.repeat(np.arange(regions), partition.count)
    projection = np.concatenate([values[:, None], basis[:, :, :width]], 1)
    arrays = {
        "projection": projection.transpose(2, 1, 0).reshape(width, (dim + 1) * regions).copy(),
        "values": values,
        "anchors": anchors,
        "basis": basis,
        "inverse": np.broadcast_to(np.linalg.inv(c), (regions, dim, dim)).copy(),
        "log_det": np.full(regions, np.log(np.diag(c)).sum()),
        "corners": (partition.vertices - anchors[corner]) @ c.T,
        "shift": np.einsum("rsd,rd->rs", basis, np.c_[values, anchors]),
        "square": (values**2).sum(1) + (anchors**2).sum(1),
        "first": partition.first,
        "count": partition.count,
        "facet_first": facets.first,
        "facet_count": facets.count,
        "normals": normals / length[:, None],
        "offsets": room / length,
        "corner_first": facets.corner_first,
        "corner_count": facets.corner_count,
        "facet_corners": facets.corners,
    }
    return Problem(partition, arrays, matrix, offset)


def run(problem: Problem, y: np.ndarray, seed: int = 1, target: float = TARGET) -> tuple:
    slack = np.full(len(y), 1e-10)
    return KERNEL(y, slack, 30.0, *problem.arrays.values(), seed, target)


def totals(problem: Problem, found: tuple, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and second moment from the pairs."""
    _, _, counts, region, rows, _ = found
    dim = problem.partition.latent_dim
    datum = np.repeat(np.arange(size), counts)
    points = problem.arrays["anchors"][region] + rows[:, 1 : 1 + dim]
    spread = np.zeros((len(region), dim, dim))
    spread[:, *np.triu_indices(dim)] = rows[:, 1 + dim :]
    spread += np.triu(spread, 1).swapaxes(1, 2)
    second = spread + points[:, :, None] * points[:, None, :]
    mean, square = np.zeros((size, dim)), np.zeros((size, dim, dim))
    np.add.at(mean, datum, rows[:, :1] * points)
    np.add.at(square, datum, rows[:, 0, None, None] * second)
    return mean, square


@pytest.mark.parametrize(("dim", "width"), [(3, 2), (4, 3), (5, 2), (4, 0), (5, 0)])
def test_cells_of_one_affine_map_add_up_to_a_gaussian(
    random_stack: Callable[..., AffineStack], dim: int, width: int
) -> None:
    problem = one_map(random_stack, dim, width)
    y = 1.5 * np.random.default_rng(0).standard_normal((4, width))
    found = run(problem, y)
    matrix, rest = problem.matrix, y - problem.offset
    truth = np.zeros(4)
    if width:
        covariance = np.eye(width) + matrix @ matrix.T
        truth = multivariate_normal(np.zeros(width), covariance).logpdf(rest)
        truth += 0.5 * width * np.log(2 * np.pi)
    error = found[5]
    assert problem.partition.num_regions > 5
    assert (error < 1.5 * TARGET).all()
    assert (np.abs(found[0] - truth) < 5 * error).all()
    precision = np.eye(dim) + matrix.T @ matrix
    mean = np.linalg.solve(precision, matrix.T @ rest.T).T
    second = np.linalg.inv(precision) + mean[:, :, None] * mean[:, None, :]
    np.testing.assert_allclose(totals(problem, found, 4)[0], mean, atol=0.01)
    np.testing.assert_allclose(totals(problem, found, 4)[1], second, atol=0.02)
    energy = -0.5 * (((rest - mean @ matrix.T) ** 2).sum(1) + (mean**2).sum(1) + dim)
    np.testing.assert_allclose(found[1], energy, atol=0.02)


def test_results_depend_on_the_seed_but_not_on_the_cut(
    random_stack: Callable[..., AffineStack],
) -> None:
    problem = one_map(random_stack, 4, 3)
    y = np.random.default_rng(1).standard_normal((6, 3))
    y[5] = y[0]
    whole, head, tail = run(problem, y), run(problem, y[:2]), run(problem, y[2:])
    for a, b, c in zip(whole, head, tail, strict=True):
        np.testing.assert_array_equal(a, np.concatenate([b, c]))
    assert whole[0][5] == whole[0][0]
    assert (run(problem, y, seed=2)[0] != whole[0]).any()


def test_errors_of_the_evidence_are_honest(random_stack: Callable[..., AffineStack]) -> None:
    problem = one_map(random_stack, 4, 3)
    y = np.random.default_rng(2).standard_normal((3, 3))
    covariance = np.eye(3) + problem.matrix @ problem.matrix.T
    truth = multivariate_normal(problem.offset, covariance).logpdf(y) + 1.5 * np.log(2 * np.pi)
    found = [run(problem, y, seed, 3e-3) for seed in range(20)]
    scores = np.array([(f[0] - truth) / f[5] for f in found])
    assert (scores**2).mean() < 2.0
    assert np.abs(scores).max() < 5
    assert np.abs(scores).max() > 0.5


def test_more_points_lower_the_error(random_stack: Callable[..., AffineStack]) -> None:
    problem = one_map(random_stack, 4, 3)
    y = np.random.default_rng(3).standard_normal((3, 3))
    loose, tight = run(problem, y, target=1e-2), run(problem, y, target=3e-4)
    assert (tight[5] < 4e-4).all()
    assert (loose[5] > 3 * tight[5]).all()


def draws_of(problem: Problem, y: np.ndarray, num: int, begin: int = 0) -> tuple[np.ndarray, int]:
    counts, region, rows = run(problem, y)[2:5]
    offsets = np.r_[0, np.cumsum(counts)]
    a = problem.arrays
    out = np.full((num, begin + len(y), problem.partition.latent_dim), np.nan)
    names = ["values", "anchors", "basis", "inverse", "corners", "first", "count", "facet_first"]
    names += ["facet_count", "normals", "offsets", "corner_first", "corner_count", "facet_corners"]
    probability = np.ascontiguousarray(rows[:, 0])
    tries = DRAW(7, begin, num, y, offsets, region, probability, *(a[name] for name in names), out)
    return out[:, begin:], tries


@pytest.mark.parametrize(("dim", "width"), [(3, 2), (4, 3), (5, 2), (4, 0)])
def test_draws_have_the_moments_of_the_gaussian(
    random_stack: Callable[..., AffineStack], dim: int, width: int
) -> None:
    problem = one_map(random_stack, dim, width)
    y = 1.5 * np.random.default_rng(4).standard_normal((3, width))
    draws, tries = draws_of(problem, y, 4000)
    precision = np.eye(dim) + problem.matrix.T @ problem.matrix
    mean = np.linalg.solve(precision, problem.matrix.T @ (y - problem.offset).T).T
    rest = (draws - mean) @ np.linalg.cholesky(precision)
    assert np.abs(rest.mean(0) * np.sqrt(4000)).max() < 5
    products = rest[..., :, None] * rest[..., None, :] - np.eye(dim)
    assert np.abs(products.mean(0) / products.std(0) * np.sqrt(4000)).max() < 5
    assert 12_000 <= tries < 36_000


def test_draws_do_not_depend_on_chunks(random_stack: Callable[..., AffineStack]) -> None:
    problem = one_map(random_stack, 4, 3)
    y = np.random.default_rng(5).standard_normal((3, 3))
    whole, _ = draws_of(problem, y, 5)
    tail, _ = draws_of(problem, y[1:], 5, begin=1)
    np.testing.assert_array_equal(whole[:, 1:], tail)


def by_importance(
    stack: AffineStack,
    folded: FoldedGenerator,
    x: torch.Tensor,
    found: Expectation,
    log_joint: Callable[..., torch.Tensor],
) -> tuple[np.ndarray, np.ndarray]:
    """Log p(x) and its error by importance sampling from a wide Student distribution."""
    mean, covariance = found.moments()
    values, errors = [], []
    for n in range(len(x)):
        proposal = multivariate_t(mean[n], 1.3 * covariance[n], df=5, seed=n)
        u = proposal.rvs(100_000)
        joint = log_joint(stack, x[n], torch.from_numpy(folded.to_latent(u))).detach().numpy()
        level = joint + np.log(np.diag(folded.prior_scale_tril)).sum() - proposal.logpdf(u)
        weight = np.exp(level - level.max())
        values.append(level.max() + np.log(weight.mean()))
        errors.append(weight.std() / weight.mean() / np.sqrt(len(u)))
    return np.array(values), np.array(errors)


@pytest.mark.parametrize(("dim", "hidden"), [(4, (5, 4)), (5, (6,))])
def test_evidence_of_a_network_against_importance_sampling(
    random_stack: Callable[..., AffineStack],
    observe: Callable[..., torch.Tensor],
    log_joint: Callable[..., torch.Tensor],
    dim: int,
    hidden: tuple[int, ...],
) -> None:
    stack = random_stack(dim, hidden, 5, 0.4, seed=3)
    x = observe(stack, 4)
    folded = fold(stack)
    partition = find_partition(folded, 9.0, 10_000)
    assert whiten(folded, partition).normals.shape[1] == dim
    found = expect(folded, x.numpy(), partition)
    values, errors = by_importance(stack, folded, x, found, log_joint)
    mine = found.log_evidence + found.constant
    assert (found.error < 2e-4).all()
    assert (errors < 0.01).all()
    assert (np.abs(mine - values) < 5 * np.hypot(errors, found.error)).all()
