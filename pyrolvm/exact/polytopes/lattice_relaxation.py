"""Compiled relaxation of a polytope: one linear lower and upper bound of each coordinate.

A bound is a row of slopes in the coordinates before and, last, a constant, ``(S, S + 1)``.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from numba import njit

from pyrolvm.exact.special import interval_moments


@njit(cache=True, nogil=True)
def relax(turned, offsets, picks, box, lower, upper):
    """Bounds of each coordinate by the facet that its direction was made for, and by the extent.

    Args:
        turned: Rotated normals.
        offsets: Offsets.
        picks: Facet of each direction.
        box: Extents, ``(S, 2)``.
        lower: Receives slopes and, last, the constant, ``(S, S + 1)``.
        upper: Likewise.
    """
    dim = box.shape[0]
    for k in range(dim):
        for i in range(dim + 1):
            lower[k, i], upper[k, i] = 0.0, 0.0
        lower[k, dim], upper[k, dim] = box[k, 0], box[k, 1]
        if picks[k] >= 0:
            place_bound(turned[picks[k]], offsets[picks[k]], k, upper)


@njit(cache=True, nogil=True)
def place_bound(normal, offset, k, bound):
    """Solve a facet for coordinate k and write it as that coordinate's bound."""
    dim = normal.shape[0]
    for i in range(k):
        bound[k, i] = -normal[i] / normal[k]
    bound[k, dim] = offset / normal[k]


@njit(cache=True, nogil=True)
def close_last(turned, offsets, facets, at, lower, upper):
    """Bound the last coordinate by the facets that are active at a point.

    Returns:
        Whether a bound has changed.
    """
    dim = at.shape[0]
    last = dim - 1
    low, high = bound_at(lower, last, at), bound_at(upper, last, at)
    changed = False
    for j in range(facets):
        if abs(turned[j, last]) < 1e-9:
            continue
        room = offsets[j]
        for i in range(last):
            room -= turned[j, i] * at[i]
        edge = room / turned[j, last]
        if turned[j, last] > 0.0 and edge < high - 1e-12 * (1 + abs(high)):
            high = edge
            place_bound(turned[j], offsets[j], last, upper)
            changed = True
        if turned[j, last] < 0.0 and edge > low + 1e-12 * (1 + abs(low)):
            low = edge
            place_bound(turned[j], offsets[j], last, lower)
            changed = True
    return changed


@njit(cache=True, nogil=True)
def bound_at(bound, k, at):
    """Value of coordinate k's bound at a point."""
    dim = bound.shape[0]
    total = bound[k, dim]
    for i in range(k):
        total += bound[k, i] * at[i]
    return total


@njit(cache=True, nogil=True)
def start_saddle(lower, upper, centre, at, tilt):
    """Write a first guess: no tilt, and each coordinate at its mean given those before.

    Where that leaves the relaxed polytope, the guess is drawn towards an inner point.
    """
    dim = lower.shape[0]
    for k in range(dim):
        low, high = bound_at(lower, k, at), bound_at(upper, k, at)
        high = max(high, low)
        base, m0, m1, _ = interval_moments(low, high)
        at[k] = base + m1 / m0 if m0 > 0.0 else base
        tilt[k] = 0.0
    for _ in range(60):
        inside = True
        for k in range(dim):
            low, high = bound_at(lower, k, at), bound_at(upper, k, at)
            if not high - low > 1e-14 * (abs(low) + abs(high)):
                inside = False
        if inside:
            break
        for k in range(dim):
            at[k] = 0.5 * (at[k] + centre[k])
