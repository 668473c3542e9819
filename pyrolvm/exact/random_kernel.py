"""Compiled random numbers and exact draws of a normal variable on an interval.

Each datum has a stream of its own (splitmix64), so that draws do not depend on threads or chunks.

References:
    Steele, Lea & Flood (2014), Fast Splittable Pseudorandom Number Generators.
    Robert (1995), Simulation of truncated normal variables.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import cos, exp, expm1, log, log1p, pi, sin, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.buffers import lengthen

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
S30, S27, S31, S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@njit(cache=True, nogil=True)
def mix(value):
    """Scramble 64 bits."""
    value = (value ^ (value >> S30)) * FIRST
    value = (value ^ (value >> S27)) * SECOND
    return value ^ (value >> S31)


@njit(cache=True, nogil=True)
def open_stream(seed, datum, state):
    """Set a stream's state from the seed and the datum's number."""
    state[0] = mix(mix(np.uint64(seed)) + GOLDEN * np.uint64(datum + 1))


@njit(cache=True, nogil=True)
def uniform(state):
    """Uniform number in the open interval (0, 1); advances the stream."""
    state[0] += GOLDEN
    return (np.float64(mix(state[0]) >> S11) + 0.5) * 1.1102230246251565e-16


@njit(cache=True, nogil=True)
def normal_pair(state):
    """Two independent standard normal numbers."""
    radius = sqrt(-2.0 * log(uniform(state)))
    angle = 2.0 * pi * uniform(state)
    return radius * cos(angle), radius * sin(angle)


@njit(cache=True, nogil=True)
def truncated_normal(low, high, state):
    """Exact draw of a standard normal variable on [low, high], also in far tails, by rejection."""
    width = high - low
    if low <= 0.0 <= high:
        if width > 2.5:
            while True:
                v, v2 = normal_pair(state)
                if low <= v <= high:
                    return v
                if low <= v2 <= high:
                    return v2
        while True:
            v = low + width * uniform(state)
            if uniform(state) < exp(-0.5 * v * v):
                return v
    near = low if low > 0.0 else -high
    rate = 0.5 * (near + sqrt(near * near + 4.0))
    shift = rate - near
    if width <= shift:
        rate, shift = near, 0.0
    drop = rate * width
    while True:
        if drop < 1e-9:
            t = width * uniform(state)
        else:
            t = -log1p(uniform(state) * expm1(-drop)) / rate
        if uniform(state) < exp(-0.5 * (t - shift) ** 2):
            break
    t = min(t, width)
    return low + t if low > 0.0 else high - t


@njit(cache=True, nogil=True)
def choose(cumulative, begin, end, value):
    """Find the pair whose cumulative probability first exceeds a value."""
    low, high = begin, end - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > value:
            high = middle
        else:
            low = middle + 1
    return low


@njit(cache=True, nogil=True)
def choose_all(probability, begin, end, num, state, order, tally):
    """Choose a pair for each of ``num`` draws and sort the draws by pair.

    ``order`` receives the draws, grouped by pair; ``tally[i]:tally[i + 1]`` are those of pair
    ``begin + i``.
    """
    pairs = end - begin
    cumulative = np.empty(pairs)
    total = 0.0
    for i in range(pairs):
        total += probability[begin + i]
        cumulative[i] = total
        tally[i] = 0
    tally[pairs] = 0
    pick = np.empty(num, np.int64)
    for k in range(num):
        pick[k] = choose(cumulative, 0, pairs, uniform(state) * total)
        tally[pick[k] + 1] += 1
    for i in range(pairs):
        tally[i + 1] += tally[i]
    slot = lengthen(tally, pairs + 1, pairs + 1)
    for k in range(num):
        order[slot[pick[k]]] = k
        slot[pick[k]] += 1
