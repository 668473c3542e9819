"""The group of maps that keep several Gaussians, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import fsolve

from pyrolvm.identifiability.gaussian_symmetries import GaussianSymmetries
from pyrolvm.identifiability.surviving import affine_maps, surviving


def random_environments(random, environments, dim):
    """Laws with many accidents: means and scales from few values, coordinates that repeat."""
    loc = random.choice([0.0, 0.0, 1.0, 2.0], size=(environments, dim))
    scale = random.choice([1.0, 1.0, 2.0], size=(environments, dim))
    if random.random() < 0.3:
        loc, scale = loc * (random.random(dim) < 0.5), np.tile(scale[:, :1], (1, dim))
    return GaussianSymmetries(loc, scale)


def signed_permutations(dim):
    for order in itertools.permutations(range(dim)):
        for signs in itertools.product((1.0, -1.0), repeat=dim):
            yield np.eye(dim)[list(order)] * np.array(signs)


def keeps_all(found, turn):
    """Whether a matrix in the coordinates of environment 0 keeps every Gaussian there."""
    return all(
        np.allclose(turn @ mean, mean) and np.allclose(turn * s @ turn.T, np.diag(s))
        for mean, s in zip(found.means, found.variances, strict=True)
    )


def test_reflections_are_those_of_brute_force():
    random, seen = np.random.default_rng(0), set()
    for _ in range(150):
        found = random_environments(random, random.integers(1, 5), random.integers(1, 4))
        mirrors = []
        for block in found.blocks:
            for direction in block.free:
                axis = np.zeros(found.loc.shape[1])
                axis[list(block.coordinates)] = direction
                mirrors.append(np.eye(len(axis)) - 2 * np.outer(axis, axis))
        assert all(keeps_all(found, mirror) for mirror in mirrors)
        kept = [t for t in signed_permutations(found.loc.shape[1]) if keeps_all(found, t)]
        if max(len(block.free) for block in found.blocks) > 1:
            continue
        order = 2 ** len(mirrors)
        along = [m for m in mirrors if any(np.allclose(m, t) for t in kept)]
        assert len(kept) == 2 ** len(along)
        assert (len(kept) == 1) == (order == 1) or len(along) < len(mirrors)
        seen.add(order)
    assert {1, 2, 4} <= seen


def log_ratios(found, z):
    laws = torch.distributions.Normal(*map(torch.from_numpy, (found.loc, found.scale)))
    densities = laws.log_prob(z).sum(-1)
    return densities - densities[0]


def test_directions_without_a_likelihood_ratio_are_those_of_autograd():
    random, seen = np.random.default_rng(1), set()
    for _ in range(100):
        found = random_environments(random, random.integers(1, 5), random.integers(1, 4))
        point = torch.from_numpy(random.standard_normal(found.loc.shape[1]))
        slopes = torch.autograd.functional.jacobian(lambda z, f=found: log_ratios(f, z), point)
        free = found.loc.shape[1] - int(torch.linalg.matrix_rank(slopes, atol=1e-6))
        assert len(found.undirected) == free
        seen.add(free)
    assert {0, 1, 2} <= seen


def test_ranks_are_those_of_natural_parameters():
    random = np.random.default_rng(2)
    loc, scale = random.standard_normal((6, 2)), random.random((6, 2)) + 0.5
    assert GaussianSymmetries(loc, scale).rank == GaussianSymmetries(loc, scale).needed_rank == 4
    assert GaussianSymmetries(loc[:4], scale[:4]).rank == 3
    assert GaussianSymmetries(loc, np.ones((6, 2))).needed_rank == 2
    doubled = GaussianSymmetries(np.tile(loc[:2], (3, 1)), np.tile(scale[:2], (3, 1)))
    assert doubled.rank == 1


def test_points_that_ratios_confuse_have_unequal_density():
    """With three generic environments of two latents ratios confuse points, which no map swaps."""
    random = np.random.default_rng(3)
    found = GaussianSymmetries(random.standard_normal((3, 2)), random.random((3, 2)) + 0.5)
    assert found.rank == 2 < found.needed_rank
    assert surviving(found).is_trivial
    confused = 0
    for _ in range(20):
        z = torch.from_numpy(random.standard_normal(2))
        here = log_ratios(found, z)[1:].numpy()

        def gap(w, here=here):
            return log_ratios(found, torch.from_numpy(w))[1:].numpy() - here

        for start in 4 * random.standard_normal((10, 2)):
            other, _, success, _ = fsolve(gap, start, full_output=True)
            if success == 1 and np.abs(other - z.numpy()).max() > 1e-3:
                confused += 1
                assert abs(mass(found, z) - mass(found, torch.from_numpy(other))) > 1e-3
    assert confused > 10


def mass(found, z):
    """Log density of environment 0 in the coordinates that the ratios make around a point."""
    slopes = torch.autograd.functional.jacobian(lambda w: log_ratios(found, w)[1:], z)
    laws = torch.distributions.Normal(*map(torch.from_numpy, (found.loc, found.scale)))
    return float(laws.log_prob(z).sum(-1)[0] - torch.linalg.det(slopes).abs().log())


@pytest.mark.parametrize(
    ("loc", "scale", "level"),
    [
        (np.zeros((1, 3)), np.ones((1, 3)), "up to orthogonal"),
        (np.zeros((1, 2)), np.array([[1.0, 2.0]]), "up to affine"),
        (np.array([[0.0, 0.0], [1.0, 0.0]]), np.ones((2, 2)), "up to signs"),
    ],
)
def test_affine_maps_alone(loc, scale, level):
    assert affine_maps(GaussianSymmetries(loc, scale)).level == level
