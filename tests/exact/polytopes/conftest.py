"""Polytopes to integrate over, made by scipy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from scipy.spatial import HalfspaceIntersection
from scipy.stats import ortho_group


class Polytope(NamedTuple):
    """The set n_j . w <= b_j and its vertices."""

    normals: np.ndarray
    offsets: np.ndarray
    vertices: np.ndarray


def polytope(normals: np.ndarray, offsets: np.ndarray, inner: np.ndarray) -> Polytope:
    """Polytope from half-spaces and a point inside; redundant ones are dropped."""
    length = np.linalg.norm(normals, axis=1)
    normals, offsets = normals / length[:, None], offsets / length
    found = HalfspaceIntersection(np.c_[normals, -offsets], inner).intersections
    found = found[np.unique(found.round(9), axis=0, return_index=True)[1]]
    touching = (np.abs(found @ normals.T - offsets) < 1e-8).sum(0) >= normals.shape[1]
    return Polytope(normals[touching], offsets[touching], found)


def turned_box(low: np.ndarray, high: np.ndarray, seed: int) -> Polytope:
    """Box with random axes."""
    dim = len(low)
    axes = ortho_group.rvs(dim, random_state=seed)
    vertices = np.array(list(product(*zip(low, high, strict=True))))
    return Polytope(np.r_[axes, -axes], np.r_[high, -low], vertices @ axes)


def random_polytope(dim: int, facets: int, spread: float, away: float, seed: int) -> Polytope:
    """Cell around a random point ``away`` from 0, its facets about ``spread`` from that point."""
    random = np.random.default_rng(seed)
    inner = random.standard_normal(dim)
    inner *= away / np.linalg.norm(inner)
    normals = random.standard_normal((facets, dim))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    offsets = normals @ inner + spread * random.exponential(size=facets)
    eye = np.eye(dim)
    normals = np.r_[normals, eye, -eye]
    offsets = np.r_[offsets, inner + 30.0, 30.0 - inner]
    return polytope(normals, offsets, inner)


@pytest.fixture(name="polytope", scope="session")
def give_polytope() -> Callable[..., Polytope]:
    return polytope


@pytest.fixture(name="turned_box", scope="session")
def give_turned_box() -> Callable[..., Polytope]:
    return turned_box


@pytest.fixture(name="random_polytope", scope="session")
def give_random_polytope() -> Callable[..., Polytope]:
    return random_polytope
