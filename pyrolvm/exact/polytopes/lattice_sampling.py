"""Compiled exact draws from the posterior in four and more latent coordinates.

The region is drawn by its probability. Within it, coordinates come one after the other from
tilted normal variables on their ranges, the last two on what the slice leaves to them by all
facets; minimax tilting bounds all weights, so that accepting with the weight over its bound gives
exact draws. The acceptance is the polytope's mass over the bound. Draws are as exact as the
regions' probabilities, whose own error the E-step states.

References:
    Botev (2017), The normal law under linear restrictions: simulation and estimation via minimax
    tilting.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import inf, log

import numpy as np
from numba import njit

from pyrolvm.exact.polytopes.lattice_frame import outer_range, slice_polygon
from pyrolvm.exact.polytopes.lattice_pair import look, make_space, place_polytope
from pyrolvm.exact.polytopes.lattice_whitened import find_mean
from pyrolvm.exact.random_kernel import choose_all, open_stream, truncated_normal, uniform
from pyrolvm.exact.special import interval_moments

# Proposals for one draw before it is given up.
MOST_TRIES = 10_000_000
# Rounding allowance of the bound.
MARGIN = 1e-9


@njit(cache=True, nogil=True)
def section(point, dim, turned, offsets, facets, box):
    """Interval that all facets leave to the last coordinate, given the others."""
    low, high = box[dim - 1, 0], box[dim - 1, 1]
    for j in range(facets):
        room, slope = offsets[j], turned[j, dim - 1]
        for k in range(dim - 1):
            room -= turned[j, k] * point[k]
        if slope > 1e-14:
            high = min(high, room / slope)
        elif slope < -1e-14:
            low = max(low, room / slope)
    return low, high


@njit(cache=True, nogil=True)
def propose(facets, space, state, point):
    """Draw a point of the polytope from the tilted proposal.

    Args:
        facets: Number of facets.
        space: From :func:`~pyrolvm.exact.polytopes.lattice_pair.look`.
        state: Random stream.
        point: Receives the point in rotated coordinates, ``(S,)``.

    Returns:
        Its log weight; -inf if a range was empty.
    """
    offsets, _, _, picks, turned, _, box, chains, lengths, tilt, work = space
    dim = point.shape[0]
    outer = dim - 2
    level = 0.0
    for k in range(dim):
        if k < outer:
            low, high = outer_range(k, point, outer, turned, offsets, picks, box, chains, lengths)
        elif k == outer:
            x, y = work[0], work[1]
            size = slice_polygon(
                point, outer, turned, offsets, facets, box, x, y, work[2], work[3]
            )
            low, high = inf, -inf
            for i in range(size):
                low, high = min(low, x[i]), max(high, x[i])
        else:
            low, high = section(point, dim, turned, offsets, facets, box)
        mu = tilt[k] if k < dim - 1 else 0.0
        if not high > low:
            return -inf
        base, mass, _, _ = interval_moments(low - mu, high - mu)
        if not mass > 0.0:
            return -inf
        at = min(max(mu + truncated_normal(low - mu, high - mu, state), low), high)
        point[k] = at
        level += log(mass) - 0.5 * base * base + mu * (0.5 * mu - at)
    return level


@njit(cache=True, nogil=True)
def draw_polytopes(
    seed,
    first_datum,
    num,
    y,
    offsets,
    region,
    probability,
    values,
    anchors,
    basis,
    inverse,
    corners,
    first,
    count,
    facet_first,
    facet_count,
    normals,
    facet_offsets,
    corner_first,
    corner_count,
    facet_corners,
    out,
):
    """Draw from posteriors with three or more latent coordinates.

    Args:
        seed: Seed; each datum has a stream of its own.
        first_datum: Number of the first datum.
        num: Draws for each datum.
        y: Reduced data of these data, ``(n, D')``.
        offsets: Where the pairs of each begin, ``(n + 1,)``.
        region: Region of each pair.
        probability: Its probability.
        values: See :func:`~pyrolvm.exact.polytopes.lattice_kernel.lattice_pairs`, likewise the
            next three.
        anchors: ``(R, S)``.
        basis: ``(R, S, D' + S)``.
        inverse: ``(R, S, S)``.
        corners: Whitened vertices.
        first: First vertex of each region.
        count: Number of its vertices.
        facet_first: First facet of each region.
        facet_count: Number of its facets.
        normals: Outward unit normals.
        facet_offsets: Their offsets.
        corner_first: Not used.
        corner_count: Not used.
        facet_corners: Not used.
        out: Receives the draws of u, ``(num, N, S)``.

    Returns:
        Number of proposals made.

    Raises:
        ArithmeticError: If ``MOST_TRIES`` proposals in a row are rejected.
    """
    state = np.empty(1, np.uint64)
    order = np.empty(num, np.int64)
    width, dim = y.shape[1], anchors.shape[1]
    most_facets, most_corners = 1, 1
    for r in range(first.shape[0]):
        most_facets = max(most_facets, facet_count[r])
        most_corners = max(most_corners, count[r])
    space = make_space(dim, most_facets, most_corners)
    frame = space[2]
    rho, mean, point, w = np.empty(width + dim), np.empty(dim), np.empty(dim), np.empty(dim)
    tries = 0
    for n in range(y.shape[0]):
        open_stream(seed, first_datum + n, state)
        begin, end = offsets[n], offsets[n + 1]
        tally = np.empty(end - begin + 1, np.int64)
        choose_all(probability, begin, end, num, state, order, tally)
        for i in range(end - begin):
            if tally[i] == tally[i + 1]:
                continue
            r = region[begin + i]
            find_mean(y[n], values[r], anchors[r], basis[r], rho, mean)
            s, e = facet_first[r], facet_first[r] + facet_count[r]
            a, b = first[r], first[r] + count[r]
            place_polytope(
                mean, normals[s:e], facet_offsets[s:e], corners[a:b], space[0], space[1]
            )
            bound = look(normals[s:e], e - s, b - a, -inf, space) + MARGIN
            for k in range(tally[i], tally[i + 1]):
                found = False
                for _ in range(MOST_TRIES):
                    tries += 1
                    level = propose(e - s, space, state, point)
                    if log(uniform(state)) <= level - bound:
                        found = True
                        break
                row = out[order[k], first_datum + n]
                if not found:
                    raise ArithmeticError(
                        "Ten million proposals for one exact draw were rejected: a region that "
                        "explains a datum is too thin for double precision."
                    )
                for c in range(dim):
                    w[c] = mean[c]
                    for d in range(dim):
                        w[c] += frame[d, c] * point[d]
                for c in range(dim):
                    row[c] = anchors[r, c]
                    for d in range(c, dim):
                        row[c] += inverse[r, c, d] * w[d]
    return tries
