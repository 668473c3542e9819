"""Compiled highest-density sets for one latent coordinate: level sets, piece by piece."""

# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

from math import exp, inf, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.line_kernel import LOG_ROOT_2PI, log_mass, place_pieces


@njit(cache=True, nogil=True)
def find_depths(table, log_det, depth):
    """How far each piece's highest joint log density lies below the highest of all; returns that.

    The density is taken per unit of u, which ``log_det`` does.
    """
    top = -inf
    for r in range(table.shape[0]):
        top = max(top, table[r, 0] + log_det[r])
    for r in range(table.shape[0]):
        depth[r] = top - (table[r, 0] + log_det[r])
    return top


@njit(cache=True, nogil=True)
def half_width(start, above):
    """The |v| at which a piece's log density is ``above`` lower than at its start; -1 if none."""
    return sqrt(start * start + 2.0 * above) if above >= 0.0 else -1.0


@njit(cache=True, nogil=True)
def masses_at(drop, table, depth, total):
    """Probabilities in and out of the set where the log density is at most ``drop`` below its top.

    Each is summed for itself, so that the smaller one keeps its digits.
    """
    inside, outside = 0.0, 0.0
    for r in range(table.shape[0]):
        level, start, low, high, _ = table[r]
        reach = half_width(start, drop - depth[r])
        if reach < 0.0:
            outside += exp(log_mass(low, high, start, level) - total)
            continue
        a, b = max(low, -reach), min(high, reach)
        inside += exp(log_mass(a, b, start, level) - total)
        outside += exp(log_mass(low, a, start, level) - total)
        outside += exp(log_mass(b, high, start, level) - total)
    return inside, outside


@njit(cache=True, nogil=True)
def find_drop(wanted, table, depth, total):
    """How far the log density falls from its top to the border of the set, by bisection."""
    low, high = 0.0, 1.0
    while high < 1e9:
        inside, outside = masses_at(high, table, depth, total)
        if inside > wanted if wanted <= 0.5 else outside < 1.0 - wanted:
            break
        low, high = high, 2.0 * high
    for _ in range(1100):
        middle = 0.5 * (low + high)
        if middle <= low or middle >= high:
            break
        inside, outside = masses_at(middle, table, depth, total)
        if inside > wanted if wanted <= 0.5 else outside < 1.0 - wanted:
            high = middle
        else:
            low = middle
    return high


@njit(cache=True, nogil=True)
def densest_sets(begin, end, wanted, y, geometry):
    """Sets of highest density as unions of intervals, neighbours joined.

    Args:
        begin: First datum to work on.
        end: Datum to stop before.
        wanted: Probability of the set.
        y: Reduced data, ``(N, D')``.
        geometry: Values, anchors, basis, factor, log_det and corners.

    Returns:
        Number of intervals of each datum, whitened ends ``(intervals, 2)``, and the log posterior
        density (of u) at which each datum's set is cut.
    """
    anchors, factor, log_det = geometry[1], geometry[3], geometry[4]
    regions = len(anchors)
    table, left, right = np.empty((regions, 5)), np.empty(regions + 1), np.empty(regions + 1)
    depth = np.empty(regions)
    counts, cuts = np.zeros(end - begin, np.int64), np.empty(end - begin)
    ends = np.empty(((end - begin) * regions, 2))
    used = 0
    for n in range(begin, end):
        place_pieces(y[n], *geometry, table, left, right)
        top = find_depths(table, log_det, depth)
        drop = find_drop(wanted, table, depth, left[regions])
        cuts[n - begin] = top - drop - LOG_ROOT_2PI - left[regions]
        for r in range(regions):
            _, start, low, high, w = table[r]
            reach = half_width(start, drop - depth[r])
            a, b = max(low, -reach), min(high, reach)
            if reach < 0.0 or not b > a:
                continue
            begins = anchors[r, 0] + (w + (a - start)) / factor[r, 0, 0]
            stops = anchors[r, 0] + (w + (b - start)) / factor[r, 0, 0]
            known = counts[n - begin]
            if known > 0 and begins - ends[used - 1, 1] <= 1e-12 * (1.0 + abs(begins)):
                ends[used - 1, 1] = stops
                continue
            ends[used, 0], ends[used, 1] = begins, stops
            counts[n - begin] += 1
            used += 1
    return counts, ends[:used].copy(), cuts
