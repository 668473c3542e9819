r"""Compiled projection of 0 on a polytope: which facets hold it away from the Gaussian's mean.

Minimises |w|^2 / 2 subject to n_j . w <= b_j by the dual active-set method: the most violated
facet joins, facets whose multiplier falls to 0 leave. Any multipliers lambda >= 0 bound the
distance,

.. math:: \tfrac12 d^2 \ge -\tfrac12 \Big|\sum_j \lambda_j n_j\Big|^2 - \sum_j \lambda_j b_j,

so that the bound holds wherever the iteration stops.

References:
    Goldfarb & Idnani (1983), A numerically stable dual method for solving strictly convex
    quadratic programs.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912 - compiled loops are one body

from __future__ import annotations

from math import inf

import numpy as np
from numba import njit

from pyrolvm.exact.polytopes.lattice_elimination import eliminate

STEPS = 200
# Violations below this, relative to the facet's offset, are rounding.
TOLERANCE = 1e-11


@njit(cache=True, nogil=True)
def dot(a, b):
    """Inner product of two short vectors."""
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return total


@njit(cache=True, nogil=True)
def dual_direction(normals, active, used, j, step, rest):
    """Part of a normal along the active ones (their weights, ``step``) and what is left of it.

    Returns:
        Squared length of the rest; 0 if the active normals hold no unique answer.
    """
    gram, right = np.empty((used, used)), np.empty(used)
    for a in range(used):
        right[a] = dot(normals[active[a]], normals[j])
        for b in range(used):
            gram[a, b] = dot(normals[active[a]], normals[active[b]])
    regular = eliminate(gram, right)
    for k in range(rest.shape[0]):
        rest[k] = normals[j, k]
    for a in range(used):
        step[a] = right[a] if regular else 0.0
        for k in range(rest.shape[0]):
            rest[k] -= step[a] * normals[active[a], k]
    return dot(rest, rest) if regular else 0.0


@njit(cache=True, nogil=True)
def nearest_facets(normals, offsets, facets, active):
    """Find the facets that are active at the polytope's point nearest to 0.

    Args:
        normals: Outward unit normals.
        offsets: Their offsets.
        facets: Number of facets.
        active: Receives the active facets, ``(S,)``.

    Returns:
        Their number, and a lower bound on half the squared distance, sharp at convergence.
    """
    dim = normals.shape[1]
    near, rest, step, force = np.zeros(dim), np.empty(dim), np.empty(dim), np.zeros(dim)
    used, joining, push = 0, -1, 0.0
    for _ in range(STEPS):
        if joining < 0:
            worst = 0.0
            for j in range(facets):
                over = dot(normals[j], near) - offsets[j]
                if over > max(worst, TOLERANCE * (1.0 + abs(offsets[j]))):
                    joining, worst, push = j, over, 0.0
            if joining < 0:
                break
        square = dual_direction(normals, active, used, joining, step, rest)
        full = inf
        if square > 1e-16 and used < dim:
            full = (dot(normals[joining], near) - offsets[joining]) / square
        leaving, length = -1, full
        for a in range(used):
            if step[a] > 0.0 and force[a] / step[a] < length:
                leaving, length = a, force[a] / step[a]
        if length == inf:
            break
        for k in range(dim):
            near[k] -= length * rest[k]
        push += length
        for a in range(used):
            force[a] = max(force[a] - length * step[a], 0.0)
        if leaving < 0:
            active[used], force[used] = joining, push
            used += 1
            joining = -1
        else:
            used -= 1
            for a in range(leaving, used):
                active[a], force[a] = active[a + 1], force[a + 1]
    for k in range(dim):
        rest[k] = 0.0
    bound = 0.0
    for a in range(used):
        bound -= force[a] * offsets[active[a]]
        for k in range(dim):
            rest[k] += force[a] * normals[active[a], k]
    return used, max(bound - 0.5 * dot(rest, rest), 0.0)
