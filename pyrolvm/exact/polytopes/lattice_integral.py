"""Gaussian integral over one polytope: mass and moments with a standard error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrolvm.exact.folding import Array


@dataclass(frozen=True)
class PolytopeIntegral:
    """Integral of N(0, I) over one polytope.

    Attributes:
        log_mass: Log probability, in nats.
        standard_error: That of the log probability.
        bound: Upper bound on the log probability, by minimax tilting.
        mean: Mean on the polytope, ``(S,)``.
        covariance: Covariance on the polytope, ``(S, S)``.
        points: Number of points that were spent.
    """

    log_mass: float
    standard_error: float
    bound: float
    mean: Array
    covariance: Array
    points: int


def integrate(
    normals: Array,
    offsets: Array,
    vertices: Array,
    *,
    points: int = 1024,
    seed: int = 0,
    tilted: bool = True,
) -> PolytopeIntegral:
    """Integrate a standard Gaussian over the polytope n_j . w <= b_j.

    Args:
        normals: Outward unit normals, ``(m, S)`` with S from 2 on.
        offsets: b, ``(m,)``.
        vertices: All vertices, ``(V, S)``.
        points: Points of each of eight shifted lattices, best a power of two.
        seed: Seed of the shifts.
        tilted: Whether to use the minimax tilt.

    Returns:
        Mass, moments and the standard error over shifts.
    """
    from pyrolvm.exact.polytopes.lattice_moments import add_points, mean_and_error, turn_back
    from pyrolvm.exact.polytopes.lattice_pair import look, make_space, place_polytope
    from pyrolvm.exact.polytopes.lattice_rule import SHIFTS, draw_shifts

    facets, dim = normals.shape
    normals, vertices = np.ascontiguousarray(normals), np.ascontiguousarray(vertices)
    space = make_space(dim, facets, len(vertices))
    place_polytope(np.zeros(dim), normals, offsets, vertices, space[0], space[1])
    bound = look(normals, facets, len(vertices), -np.inf, space)
    if not tilted:
        space[9][:] = 0.0
    sums: NDArray[np.float64] = np.zeros((SHIFTS, 1 + dim + dim * (dim + 1) // 2))
    shifts = draw_shifts(seed, 0, dim - 2)
    scale = add_points(0, points, shifts, facets, space, -np.inf, sums)
    mass, error = mean_and_error(sums, points)
    mean, covariance = np.full(dim, np.nan), np.full((dim, dim), np.nan)
    if mass > 0.0:
        turn_back(sums, space[2], mean, covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return PolytopeIntegral(
            log_mass=float(scale + np.log(mass)),
            standard_error=float(error / mass) if mass > 0.0 else np.inf,
            bound=float(bound),
            mean=mean,
            covariance=covariance,
            points=SHIFTS * points,
        )
