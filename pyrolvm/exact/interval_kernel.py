"""Compiled E-step for one latent coordinate: exact sums over intervals."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0915 - compiled loops are one body

from __future__ import annotations

from math import exp, inf, log

import numpy as np
from numba import njit

from pyrolvm.exact.buffers import lengthen, lengthen_rows
from pyrolvm.exact.propagation_kernel import project
from pyrolvm.exact.special import INVERSE_ROOT_2PI, interval_moments


@njit(cache=True, nogil=True)
def interval_pairs(
    y, slack, keep, projection, values, anchors, basis, factor, log_det, corners, shift, square
):
    """Integrate the joint density over every interval that can matter, datum by datum.

    An interval is skipped if its upper bound lies ``keep`` nats below the best one's exact value.

    Args:
        y: Reduced data, ``(N, D')``.
        slack: Rounding allowance of the bounds, in nats, ``(N,)``.
        keep: How many nats below the best interval still count.
        projection: See :class:`~pyrolvm.exact.geometry.RegionGeometry`, likewise all that follow.
        values: ``(R, D')``.
        anchors: ``(R, 1)``.
        basis: ``(R, 1, D' + 1)``.
        factor: ``(R, 1, 1)``.
        log_det: ``(R,)``.
        corners: ``(R, 2)``.
        shift: ``(R, 1)``.
        square: ``(R,)``.

    Returns:
        Log evidence ``(N,)``, E log joint ``(N,)``, number of kept pairs of each datum ``(N,)``;
        for the pairs: region, and rows (probability, mean of u - c, variance).
    """
    size, width = y.shape
    regions = values.shape[0]
    bound = np.empty(regions)
    near = np.empty(regions)
    log_evidence, energy = np.empty(size), np.empty(size)
    counts = np.zeros(size, np.int64)
    capacity = 16 * size + regions
    region, joint = np.empty(capacity, np.int32), np.empty(capacity)
    moment = np.empty((capacity, 3))
    used = 0
    projected = np.empty(projection.shape[1])
    for n in range(size):
        project(y[n], projection, projected)
        y_square = 0.0
        for d in range(width):
            y_square += y[n, d] * y[n, d]
        best, top = 0, -inf
        for r in range(regions):
            q = y_square - 2 * projected[r] + square[r]
            m = projected[regions + r] - shift[r, 0]
            w = min(max(m, corners[r, 0]), corners[r, 1])
            near[r] = w
            span = min(1.0, (corners[r, 1] - corners[r, 0]) * INVERSE_ROOT_2PI)
            bound[r] = -0.5 * q + w * m - 0.5 * w * w - log_det[r] + log(max(span, 1e-300))
            if bound[r] > top:
                best, top = r, bound[r]
        threshold = -inf
        begin = used
        peak = -inf
        for turn in range(regions + 1):
            r = best if turn == 0 else turn - 1
            if (turn > 0 and r == best) or bound[r] + slack[n] < threshold:
                continue
            c, a = anchors[r, 0], factor[r, 0, 0]
            w = near[r]
            exponent, pull = 0.0, 0.0
            for d in range(width):
                rest = y[n, d] - values[r, d] - basis[r, 0, d] * w
                exponent += rest * rest
                pull += basis[r, 0, d] * rest
            rest = -c - basis[r, 0, width] * w
            exponent = -0.5 * (exponent + rest * rest)
            pull += basis[r, 0, width] * rest
            low, high = corners[r, 0] - w - pull, corners[r, 1] - w - pull
            base, m0, m1, m2 = interval_moments(low, high)
            if not m0 > 0.0:
                continue
            off = base + pull
            where = w + off
            exponent += off * pull - 0.5 * off * off
            mass = exponent - log_det[r] + log(m0)
            if turn == 0:
                threshold = mass - keep
            if used == capacity:
                capacity = 2 * capacity + regions
                region = lengthen(region, used, capacity)
                joint = lengthen(joint, used, capacity)
                moment = lengthen_rows(moment, used, capacity)
            region[used] = r
            moment[used, 0] = mass
            moment[used, 1] = (where + m1 / m0) / a
            moment[used, 2] = (m2 / m0 - (m1 / m0) ** 2) / (a * a)
            joint[used] = exponent - (base * m1 + 0.5 * m2) / m0
            peak = max(peak, mass)
            used += 1
        total, mean_energy = 0.0, 0.0
        for i in range(begin, used):
            moment[i, 0] = exp(moment[i, 0] - peak)
            total += moment[i, 0]
        for i in range(begin, used):
            moment[i, 0] /= total
            mean_energy += moment[i, 0] * joint[i]
        log_evidence[n] = peak + log(total)
        energy[n] = mean_energy
        counts[n] = used - begin
    region, moment = lengthen(region, used, used), lengthen_rows(moment, used, used)
    return log_evidence, energy, counts, region, moment
