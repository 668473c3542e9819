r"""Compiled minimax tilting: the best exponential tilt, and a bound on all weights.

A polytope in rotated coordinates is relaxed to one lower and one upper bound a coordinate, each
linear in the coordinates before it. Then

.. math:: \psi(x, \mu) = \sum_{k < S} \big(\tfrac12 \mu_k^2 - \mu_k x_k\big)
          + \sum_{k \le S} \log \big[\Phi(u_k(x) - \mu_k) - \Phi(l_k(x) - \mu_k)\big],
          \qquad \mu_S = 0,

is concave in x and convex in mu. Its saddle point gives the tilt with the smallest largest weight.
By concavity every tangent bounds the log weight, so that the bound holds even where Newton's
iteration stops short; and bounds that are tighter than the relaxation only lower the weights.

References:
    Botev (2017), The normal law under linear restrictions: simulation and estimation via minimax
    tilting.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import exp, inf, log

import numpy as np
from numba import njit

from pyrolvm.exact.polytopes.lattice_elimination import eliminate
from pyrolvm.exact.polytopes.lattice_relaxation import (
    bound_at,
    close_last,
    relax,
    start_saddle,
)
from pyrolvm.exact.special import INVERSE_ROOT_2PI, interval_moments

STEPS = 40


@njit(cache=True, nogil=True)
def saddle_system(at, tilt, lower, upper, slope, curve):
    """Psi at a point; its gradient and Hessian in (x, mu) are written to slope and curve.

    Returns:
        Psi, or -inf where a range is empty.
    """
    dim = lower.shape[0]
    free = dim - 1
    for i in range(2 * free):
        slope[i] = 0.0
        for k in range(2 * free):
            curve[i, k] = 0.0
    psi = 0.0
    for k in range(dim):
        mu = tilt[k] if k < free else 0.0
        low, high = bound_at(lower, k, at) - mu, bound_at(upper, k, at) - mu
        if not high > low:
            return -inf
        base, mass, _, _ = interval_moments(low, high)
        if not mass > 0.0:
            return -inf
        psi += log(mass) - 0.5 * base * base
        p_low = exp(-0.5 * (low - base) * (low + base)) * INVERSE_ROOT_2PI / mass
        p_high = exp(-0.5 * (high - base) * (high + base)) * INVERSE_ROOT_2PI / mass
        high_high = -p_high * (high + p_high) if p_high > 0.0 else 0.0
        low_low = p_low * (low - p_low) if p_low > 0.0 else 0.0
        both = p_low * p_high
        for i in range(k):
            slope[i] += p_high * upper[k, i] - p_low * lower[k, i]
            for j in range(k):
                curve[i, j] += (
                    high_high * upper[k, i] * upper[k, j]
                    + low_low * lower[k, i] * lower[k, j]
                    + both * (upper[k, i] * lower[k, j] + lower[k, i] * upper[k, j])
                )
        if k < free:
            psi += mu * (0.5 * mu - at[k])
            slope[k] -= mu
            slope[free + k] += mu - at[k] - p_high + p_low
            curve[free + k, free + k] += 1.0 + high_high + low_low + 2.0 * both
            curve[k, free + k] -= 1.0
            curve[free + k, k] -= 1.0
            for i in range(k):
                mixed = -(high_high + both) * upper[k, i] - (low_low + both) * lower[k, i]
                curve[i, free + k] += mixed
                curve[free + k, i] += mixed
    return psi


@njit(cache=True, nogil=True)
def norm_of(slope):
    """Squared length of a vector."""
    total = 0.0
    for i in range(slope.shape[0]):
        total += slope[i] * slope[i]
    return total


@njit(cache=True, nogil=True)
def find_saddle(lower, upper, box, at, tilt):
    """Newton's iteration for the saddle point of psi, damped on the length of the gradient.

    Args:
        lower: Lower bounds, from :func:`relax`.
        upper: Upper bounds.
        box: Extents of the coordinates.
        at: First guess of x, ``(S,)``; overwritten.
        tilt: First guess of mu, ``(S,)``, the last 0; overwritten.

    Returns:
        A bound on every log weight of proposals with this tilt; inf if there is none.
    """
    dim = lower.shape[0]
    free = dim - 1
    slope, curve = np.empty(2 * free), np.empty((2 * free, 2 * free))
    step, new_slope = np.empty(2 * free), np.empty(2 * free)
    new_at, new_tilt = np.zeros(dim), np.zeros(dim)
    psi = saddle_system(at, tilt, lower, upper, slope, curve)
    if psi == -inf:
        return inf
    for _ in range(STEPS):
        square = norm_of(slope)
        if square < 1e-20:
            break
        for i in range(2 * free):
            step[i] = -slope[i]
        if not eliminate(curve, step):
            break
        length, moved = 1.0, False
        for _ in range(30):
            for k in range(free):
                new_at[k] = at[k] + length * step[k]
                new_tilt[k] = tilt[k] + length * step[free + k]
            psi_new = saddle_system(new_at, new_tilt, lower, upper, new_slope, curve)
            if psi_new > -inf and norm_of(new_slope) < (1.0 - 0.2 * length) * square:
                moved = True
                break
            length *= 0.5
        if not moved:
            psi = saddle_system(at, tilt, lower, upper, slope, curve)
            break
        psi = psi_new
        for k in range(free):
            at[k], tilt[k] = new_at[k], new_tilt[k]
        for i in range(2 * free):
            slope[i] = new_slope[i]
    bound = psi
    for k in range(free):
        bound += max(slope[k] * (box[k, 0] - at[k]), slope[k] * (box[k, 1] - at[k]))
    return bound


@njit(cache=True, nogil=True)
def minimax(turned, offsets, facets, picks, box, centre, at, tilt):
    """Minimax tilt of a polytope, and a bound on its log weights.

    The last coordinate starts with its own facet, and takes on those that are active at the
    saddle point while that lowers the bound.

    Args:
        turned: Rotated normals.
        offsets: Offsets.
        facets: Number of facets.
        picks: Facet of each direction.
        box: Extents.
        centre: A point inside.
        at: Receives the saddle point, ``(S,)``.
        tilt: Receives the tilt, ``(S,)``, the last 0.

    Returns:
        A bound on every log weight; without a tilt (0) that of the box of extents.
    """
    dim = box.shape[0]
    lower, upper = np.empty((dim, dim + 1)), np.empty((dim, dim + 1))
    relax(turned, offsets, picks, box, lower, upper)
    x, mu = np.zeros(dim), np.zeros(dim)
    start_saddle(lower, upper, centre, x, mu)
    best = 0.0
    for k in range(dim):
        at[k], tilt[k] = x[k], 0.0
        base, mass, _, _ = interval_moments(box[k, 0], box[k, 1])
        best += log(mass) - 0.5 * base * base if mass > 0.0 else -0.5 * base * base
    for _ in range(4):
        bound = find_saddle(lower, upper, box, x, mu)
        if not bound < best:
            break
        best = bound
        for k in range(dim):
            at[k], tilt[k] = x[k], mu[k]
        if not close_last(turned, offsets, facets, x, lower, upper):
            break
        if not bound_at(upper, dim - 1, x) > bound_at(lower, dim - 1, x):
            start_saddle(lower, upper, centre, x, mu)
    return best
