"""Compiled exact draws from the posterior: choose a region, then draw within it."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body

from __future__ import annotations

from math import exp, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.edge_moments import nearest_point
from pyrolvm.exact.polygon_kernel import place
from pyrolvm.exact.random_kernel import (
    choose,
    choose_all,
    normal_pair,
    open_stream,
    truncated_normal,
    uniform,
)
from pyrolvm.exact.slice_moments import slicing_axis, span, turn, window
from pyrolvm.exact.special import interval_moments

CELLS = 32
TRIES = 6


@njit(cache=True, nogil=True)
def draw_intervals(
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
    factor,
    corners,
    out,
):
    """Draw from posteriors with one latent coordinate; writes whitened points to ``out``."""
    state = np.empty(1, np.uint64)
    order = np.empty(num, np.int64)
    width = y.shape[1]
    for n in range(y.shape[0]):
        open_stream(seed, first_datum + n, state)
        begin, end = offsets[n], offsets[n + 1]
        tally = np.empty(end - begin + 1, np.int64)
        choose_all(probability, begin, end, num, state, order, tally)
        for i in range(end - begin):
            if tally[i] == tally[i + 1]:
                continue
            r = region[begin + i]
            mean = -basis[r, 0, width] * anchors[r, 0]
            for d in range(width):
                mean += basis[r, 0, d] * (y[n, d] - values[r, d])
            low, high = corners[r, 0] - mean, corners[r, 1] - mean
            for k in range(tally[i], tally[i + 1]):
                w = mean + truncated_normal(low, high, state)
                w = min(max(w, corners[r, 0]), corners[r, 1])
                out[order[k], first_datum + n, 0] = anchors[r, 0] + w / factor[r, 0, 0]


@njit(cache=True, nogil=True)
def slice_mass(s, u, size, distance, at):
    """Mass of the slice at a tangential coordinate, scaled, and its lower and upper end."""
    a0, b0, a1, b1 = span(s, u, size, at)
    low = a0 + b0 * at
    high = max(a1 + b1 * at, low)
    if not high > low:
        return 0.0, low, high
    base, mass, _, _ = interval_moments(low, high)
    return mass * exp(-0.5 * (at * at + (base - distance) * (base + distance))), low, high


@njit(cache=True, nogil=True)
def build_envelope(s, u, size, distance, low, high, cumulative, level):
    """Piecewise constant upper bound of the log-concave slice mass on equal cells."""
    grid = np.empty(CELLS + 1)
    step = (high - low) / CELLS
    top = 0
    for i in range(CELLS + 1):
        at = low + step * i
        if i == 0:
            at += 1e-9 * step
        if i == CELLS:
            at = high - 1e-9 * step
        grid[i], _, _ = slice_mass(s, u, size, distance, at)
        if grid[i] > grid[top]:
            top = i
    total = 0.0
    for i in range(CELLS):
        bound = max(grid[i], grid[i + 1])
        if i in (top - 1, top):
            left, right = 1e300, 1e300
            if i > 0 and grid[i - 1] > 0.0:
                left = max(bound, grid[i] * (grid[i] / grid[i - 1]))
            if i < CELLS - 1 and grid[i + 2] > 0.0:
                right = max(bound, grid[i + 1] * (grid[i + 1] / grid[i + 2]))
            bound = min(left, right)
        level[i] = bound * (1 + 1e-6)
        total += level[i]
        cumulative[i] = total


@njit(cache=True, nogil=True)
def draw_polygons(
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
    out,
):
    """Draw from posteriors with two latent coordinates; writes whitened points to ``out``.

    Within a polygon, a few plain Gaussian proposals come first; if all miss, the slice coordinate
    is drawn by rejection under an envelope of its log-concave density, and the point on the slice
    from a truncated normal. Both ways are exact.
    """
    state = np.empty(1, np.uint64)
    order = np.empty(num, np.int64)
    width = y.shape[1]
    rho = np.empty(width + 2)
    longest = 0
    for r in range(count.shape[0]):
        longest = max(longest, count[r])
    px, py = np.empty(longest), np.empty(longest)
    s, u = np.empty(longest), np.empty(longest)
    cumulative, level = np.empty(CELLS), np.empty(CELLS)
    for n in range(y.shape[0]):
        open_stream(seed, first_datum + n, state)
        begin, end = offsets[n], offsets[n + 1]
        tally = np.empty(end - begin + 1, np.int64)
        choose_all(probability, begin, end, num, state, order, tally)
        for i in range(end - begin):
            if tally[i] == tally[i + 1]:
                continue
            r = region[begin + i]
            size = count[r]
            for d in range(width):
                rho[d] = y[n, d] - values[r, d]
            rho[width], rho[width + 1] = -anchors[r, 0], -anchors[r, 1]
            m_x, m_y = place(rho, basis[r], corners, first[r], size, px, py)
            near_x, near_y, _ = nearest_point(px, py, size)
            ready = False
            low, high = 0.0, 0.0
            ax, ay, distance = 1.0, 0.0, sqrt(near_x * near_x + near_y * near_y)
            for k in range(tally[i], tally[i + 1]):
                found = False
                p_x, p_y = near_x, near_y
                if distance < 1.0:
                    for _ in range(TRIES):
                        g_x, g_y = normal_pair(state)
                        found = True
                        for a in range(size):
                            b = a + 1 if a + 1 < size else 0
                            e_x, e_y = px[b] - px[a], py[b] - py[a]
                            if e_x * (g_y - py[a]) - e_y * (g_x - px[a]) < 0.0:
                                found = False
                                break
                        if found:
                            p_x, p_y = g_x, g_y
                            break
                if not found:
                    if not ready:
                        ax, ay, distance = slicing_axis(px, py, size, near_x, near_y)
                        turn(px, py, size, ax, ay, s, u)
                        low, high = window(s, u, size, distance * distance)
                        if low < high:
                            build_envelope(s, u, size, distance, low, high, cumulative, level)
                        ready = True
                    if low < high and cumulative[CELLS - 1] > 0.0:
                        step = (high - low) / CELLS
                        at, bottom, ceiling = 0.0, 0.0, 0.0
                        for _ in range(10000):
                            value = uniform(state) * cumulative[CELLS - 1]
                            cell = choose(cumulative, 0, CELLS, value)
                            at = low + step * (cell + uniform(state))
                            mass, bottom, ceiling = slice_mass(s, u, size, distance, at)
                            if uniform(state) * level[cell] <= mass:
                                break
                        v = truncated_normal(bottom, ceiling, state)
                        p_x, p_y = ay * at + ax * v, -ax * at + ay * v
                w_x, w_y = p_x + m_x, p_y + m_y
                row = out[order[k], first_datum + n]
                row[0] = anchors[r, 0] + inverse[r, 0, 0] * w_x + inverse[r, 0, 1] * w_y
                row[1] = anchors[r, 1] + inverse[r, 1, 1] * w_y
