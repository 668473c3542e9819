"""Compiled chains of exact line updates: frames of directions, and jumps along differences.

A sweep goes through S directions, the columns of F R with F a factor of the posterior's covariance
as the warm-up found it and R a random rotation: on a Gaussian with covariance F F' a whole sweep
is an independent draw. A last update goes along the difference of two archived states, which may
lie in different modes. Directions do not depend on the state, so that each update leaves the
posterior as it is.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import exp, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.lines.conditional_kernel import KEEP, draw_on_line, make_room, sweep_line
from pyrolvm.exact.random_kernel import GOLDEN, mix, normal_pair, uniform


@njit(cache=True, nogil=True)
def open_streams(seed, size, chains):
    """Open one stream of random numbers for each datum and chain, ``(N, C)``."""
    streams = np.empty((size, chains), np.uint64)
    start = mix(np.uint64(seed))
    for n in range(size):
        row = mix(start + GOLDEN * np.uint64(n + 1))
        for c in range(chains):
            streams[n, c] = mix(row + GOLDEN * np.uint64(c + 1))
    return streams


@njit(cache=True, nogil=True)
def fill_normal(values, state):
    """Fill a vector with independent standard normal numbers."""
    for i in range(0, values.shape[0], 2):
        first, second = normal_pair(state)
        values[i] = first
        if i + 1 < values.shape[0]:
            values[i + 1] = second


@njit(cache=True, nogil=True)
def draw_starts(streams, shares, factors, means, out):
    """Draw starts from the prior, ``(N, C, S)``: component k is N(means[k], F F')."""
    size, chains, dim = out.shape
    noise = np.empty(dim)
    for n in range(size):
        for c in range(chains):
            state = streams[n, c : c + 1]
            left, k = uniform(state), 0
            while k + 1 < shares.shape[0] and left >= shares[k]:
                left -= shares[k]
                k += 1
            fill_normal(noise, state)
            for i in range(dim):
                total = means[k, i]
                for j in range(dim):
                    total += factors[k, i, j] * noise[j]
                out[n, c, i] = total


@njit(cache=True, nogil=True)
def rotate(frame, state):
    """Fill a matrix with orthonormal rows, uniform over all of them."""
    dim = frame.shape[0]
    for i in range(dim):
        row = frame[i]
        fill_normal(row, state)
        for j in range(i):
            other, share = frame[j], 0.0
            for k in range(dim):
                share += row[k] * other[k]
            for k in range(dim):
                row[k] -= share * other[k]
        square = 0.0
        for k in range(dim):
            square += row[k] * row[k]
        scale = 1.0 / sqrt(max(square, 1e-300))
        for k in range(dim):
            row[k] *= scale


@njit(cache=True, nogil=True)
def point_along(factor, row, direction):
    """Write F r to ``direction``; F is lower triangular."""
    for i in range(row.shape[0]):
        total = 0.0
        for j in range(i + 1):
            total += factor[i, j] * row[j]
        direction[i] = total


@njit(cache=True, nogil=True)
def point_between(archive, state, direction):
    """Write the difference of two archived states to ``direction``; False if they are equal."""
    size = archive.shape[0]
    a = min(int(uniform(state) * size), size - 1)
    b = min(int(uniform(state) * size), size - 1)
    square = 0.0
    for i in range(direction.shape[0]):
        direction[i] = archive[a, i] - archive[b, i]
        square += direction[i] * direction[i]
    return square > 0.0


@njit(cache=True, nogil=True)
def advance(begin, end, y, cold, progress, thin, net, streams, factors, archives, states, out):
    """Take sweeps with all chains of some data.

    Args:
        begin: First datum.
        end: One after the last.
        y: Reduced data, ``(N, D')``.
        cold: Log of the inverse temperature at the start of the warm-up, ``(N,)``.
        progress: Of the tempering at each sweep, from 0 to 1 (the posterior itself).
        thin: Every so many sweeps one is written.
        net: See :class:`~pyrolvm.exact.lines.problem.Net`.
        streams: State of the random numbers, ``(N, C)``; advanced.
        factors: Lower-triangular factors of the directions' covariance, ``(N, S, S)``.
        archives: States whose differences are directions too, ``(N, A, S)``; A may be 0.
        states: Present states, ``(N, C, S)``; overwritten.
        out: Where draws go, ``(C, sweeps // thin, N, S)``.

    Returns:
        Number of line updates and of pieces met in them.
    """
    chains, dim = states.shape[1], states.shape[2]
    frame, direction = np.empty((dim, dim)), np.empty(dim)
    room, pieces = make_room(net), np.empty((64, 7))
    updates, total = 0, 0
    for n in range(begin, end):
        for c in range(chains):
            state, point = streams[n, c : c + 1], states[n, c]
            for sweep in range(progress.shape[0]):
                heat = exp(0.5 * (1.0 - progress[sweep]) * cold[n])
                rotate(frame, state)
                for turn in range(dim + 1):
                    if turn < dim:
                        point_along(factors[n], frame[turn], direction)
                    elif archives.shape[1] == 0 or not point_between(
                        archives[n], state, direction
                    ):
                        continue
                    pieces, used, met = sweep_line(
                        point, direction, y[n], heat, net, room, KEEP, pieces
                    )
                    step = draw_on_line(pieces, used, state)
                    for i in range(dim):
                        point[i] += step * direction[i]
                    updates += 1
                    total += met
                if (sweep + 1) % thin == 0:
                    for i in range(dim):
                        out[c, sweep // thin, n, i] = point[i]
    return updates, total
