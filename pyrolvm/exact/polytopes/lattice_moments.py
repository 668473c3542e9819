r"""Compiled moments of N(0, I) on a convex polytope by separation of variables.

With coordinates x_1, ..., x_{S-2} outside and a polygon inside,

.. math:: P = E_q \Big[ P_2(x) \prod_k Z_k(x)\, e^{\mu_k^2 / 2 - \mu_k x_k} \Big]

where x_k is drawn from N(mu_k, 1) on its range given those before, Z_k is the mass of that range,
and P_2 the mass of the polygon that the slice at x leaves, in closed form. Genz integrates one
coordinate exactly; two make the integrand smoother and its dimension smaller. The estimate is
unbiased for any tilt mu and any ranges that leave nothing out. Points are a shifted lattice; the
error is that of the mean over shifts.

References:
    Genz (1992), Numerical computation of multivariate normal probabilities.
    Botev (2017), The normal law under linear restrictions: simulation and estimation via minimax
    tilting.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.edge_moments import edge_moments, nearest_point
from pyrolvm.exact.polytopes.lattice_frame import outer_range, slice_polygon
from pyrolvm.exact.polytopes.lattice_quantile import truncated_quantile
from pyrolvm.exact.polytopes.lattice_rule import SHIFTS, lattice_point
from pyrolvm.exact.slice_moments import slice_moments
from pyrolvm.exact.special import interval_moments

# Slices with less mass than this, scaled, are integrated again without cancellation.
THIN = 1e-9
# Points of a lattice that are few enough to distrust the spread over shifts.
FEW = 32.0
# Share of one point's weight that may hide between the points; relative spread of equal weights.
HIDDEN = 0.1
EQUAL = 1e-10


@njit(cache=True, nogil=True)
def weigh(share, facets, space, point, inner):
    """Log weight of one point, and the moments of its slice.

    Args:
        share: The lattice point, ``(S - 2,)``.
        facets: Number of facets.
        space: From :func:`~pyrolvm.exact.polytopes.lattice_pair.look`.
        point: Receives the outer coordinates, ``(S - 2,)``.
        inner: Receives mean (2) and second moments (3) of the slice.

    Returns:
        The log weight; -inf if the slice is empty.
    """
    offsets, _, _, picks, turned, _, box, chains, lengths, tilt, work = space
    outer = share.shape[0]
    level = 0.0
    for k in range(outer):
        low, high = outer_range(k, point, outer, turned, offsets, picks, box, chains, lengths)
        base, mass, _, _ = interval_moments(low - tilt[k], high - tilt[k])
        if not mass > 0.0:
            return -inf
        at = tilt[k] + truncated_quantile(low - tilt[k], high - tilt[k], share[k])
        at = min(max(at, low), high)
        point[k] = at
        level += log(mass) - 0.5 * base * base + tilt[k] * (0.5 * tilt[k] - at)
    x, y = work[0], work[1]
    size = slice_polygon(point, outer, turned, offsets, facets, box, x, y, work[2], work[3])
    if size == 0:
        return -inf
    near_x, near_y, _ = nearest_point(x, y, size)
    square = near_x * near_x + near_y * near_y
    mass, a_x, a_y, b_xx, b_xy, b_yy = edge_moments(x, y, size, square)
    if mass < THIN:
        mass, a_x, a_y, b_xx, b_xy, b_yy = slice_moments(x, y, size, near_x, near_y)
        b_xx += near_x * (2 * a_x + near_x * mass)
        b_xy += near_x * a_y + near_y * a_x + near_x * near_y * mass
        b_yy += near_y * (2 * a_y + near_y * mass)
        a_x += near_x * mass
        a_y += near_y * mass
    if not mass > 0.0:
        return -inf
    inner[0], inner[1] = a_x / mass, a_y / mass
    inner[2], inner[3], inner[4] = b_xx / mass, b_xy / mass, b_yy / mass
    return level + log(mass) - 0.5 * square


@njit(cache=True, nogil=True)
def gather(level, point, inner, scale, sums):
    """Add one weighted slice to the sums of its shift, in units of exp(scale)."""
    weight = exp(level - scale)
    outer = point.shape[0]
    dim = outer + 2
    sums[0] += weight
    column = 1 + dim
    for i in range(outer):
        sums[1 + i] += weight * point[i]
        for k in range(i, outer):
            sums[column] += weight * point[i] * point[k]
            column += 1
        sums[column] += weight * point[i] * inner[0]
        sums[column + 1] += weight * point[i] * inner[1]
        column += 2
    sums[1 + outer] += weight * inner[0]
    sums[2 + outer] += weight * inner[1]
    for i in range(3):
        sums[column + i] += weight * inner[2 + i]


@njit(cache=True, nogil=True)
def add_points(begin, end, shifts, facets, space, scale, sums):
    """Add lattice points ``begin:end`` of every shift to its sums.

    Args:
        begin: First point.
        end: Point to stop before.
        shifts: Shifts of the lattice, ``(SHIFTS, S - 2)``.
        facets: Number of facets.
        space: From :func:`~pyrolvm.exact.polytopes.lattice_pair.look`.
        scale: Logarithm of the unit of the sums, -inf at first; grows with the weights.
        sums: Sums of weights, first and second moments, ``(SHIFTS, 1 + S + S (S + 1) / 2)``.

    Returns:
        The new scale.
    """
    outer = shifts.shape[1]
    point, share, inner = np.empty(outer), np.empty(outer), np.empty(5)
    for i in range(begin, end):
        for m in range(SHIFTS):
            lattice_point(i, shifts[m], share)
            level = weigh(share, facets, space, point, inner)
            if level == -inf:
                continue
            if level > scale + 30.0:
                shrink = exp(scale - level) if scale > -inf else 0.0
                for a in range(SHIFTS):
                    for b in range(sums.shape[1]):
                        sums[a, b] *= shrink
                scale = level
            gather(level, point, inner, scale, sums[m])
    return scale


@njit(cache=True, nogil=True)
def mean_and_error(sums, number):
    """Mean over shifts of the mass, in units of exp(scale), and its standard error.

    The error is that of the mean over shifts, times the standard deviation of Student's t, so
    that (estimate - truth) / error has variance 1 although the error is itself an estimate. Where
    points are few, it is enlarged: a thin layer of the integrand then shows in few of the shifts,
    and the spread of the others is too small (two to three times, as measured). Unless all
    weights are equal, it is at least what a layer hides that weighs a tenth of one point.
    """
    mean, square = 0.0, 0.0
    for m in range(SHIFTS):
        mean += sums[m, 0]
    mean /= SHIFTS
    for m in range(SHIFTS):
        square += (sums[m, 0] - mean) ** 2
    error = sqrt(square / (SHIFTS * (SHIFTS - 3))) * (1.0 + FEW / (number + 0.5 * FEW))
    if error > EQUAL * mean:
        error = max(error, HIDDEN * mean / (SHIFTS * number))
    return mean / number, error / number


@njit(cache=True, nogil=True)
def turn_back(sums, frame, mean, covariance):
    """Write mean and covariance in the coordinates that the frame was made in.

    Args:
        sums: Sums of all shifts.
        frame: Directions as rows.
        mean: Receives the mean, ``(S,)``.
        covariance: Receives the covariance, ``(S, S)``.
    """
    dim = frame.shape[0]
    total = np.zeros(sums.shape[1])
    for m in range(SHIFTS):
        for a in range(sums.shape[1]):
            total[a] += sums[m, a]
    turned = np.empty((dim, dim))
    column = 1 + dim
    for i in range(dim):
        for k in range(i, dim):
            spread = total[column] / total[0] - total[1 + i] * total[1 + k] / total[0] ** 2
            turned[i, k], turned[k, i] = spread, spread
            column += 1
    half = np.zeros((dim, dim))
    for d in range(dim):
        mean[d] = 0.0
        for i in range(dim):
            mean[d] += frame[i, d] * total[1 + i] / total[0]
            for k in range(dim):
                half[i, d] += turned[i, k] * frame[k, d]
    for c in range(dim):
        for d in range(dim):
            covariance[c, d] = 0.0
            for i in range(dim):
                covariance[c, d] += frame[i, c] * half[i, d]
