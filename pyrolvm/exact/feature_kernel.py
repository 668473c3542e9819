"""Compiled posterior moments of the last hidden layer, summed over the regions of each datum."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912 - compiled loops are one body

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def moments_of_features(
    begin, end, offsets, region, probability, mean, covariance, values, jacobian, first, second
):
    """Mean and covariance of h = H_r + J_r (u - c_r) under each datum's posterior.

    The covariance is summed from deviations, so that nothing cancels.

    Args:
        begin: First datum to work on.
        end: Datum to stop before.
        offsets: Pairs of datum n are ``offsets[n]:offsets[n + 1]``, ``(N + 1,)``.
        region: Row of ``values`` of each pair, ``(pairs,)``.
        probability: ``(pairs,)``.
        mean: Mean of u - c on the region, ``(pairs, S)``.
        covariance: Covariance of u on the region, ``(pairs, S, S)``.
        values: H at the anchors, ``(R, H)``.
        jacobian: Transposed Jacobians, ``(R, S, H)``.
        first: Receives means, ``(end - begin, H)``.
        second: Receives covariances, ``(end - begin, H, H)``.
    """
    dim, width = jacobian.shape[1], jacobian.shape[2]
    rest, pushed = np.empty(width), np.empty((dim, width))
    for n in range(begin, end):
        row, table = first[n - begin], second[n - begin]
        row[:] = 0.0
        table[:] = 0.0
        for k in range(offsets[n], offsets[n + 1]):
            r = region[k]
            for a in range(width):
                h = values[r, a]
                for i in range(dim):
                    h += mean[k, i] * jacobian[r, i, a]
                row[a] += probability[k] * h
        for k in range(offsets[n], offsets[n + 1]):
            r, p = region[k], probability[k]
            for a in range(width):
                rest[a] = values[r, a] - row[a]
                for i in range(dim):
                    rest[a] += mean[k, i] * jacobian[r, i, a]
                    pushed[i, a] = 0.0
                    for j in range(dim):
                        pushed[i, a] += covariance[k, i, j] * jacobian[r, j, a]
            for a in range(width):
                for b in range(a + 1):
                    table[a, b] += p * rest[a] * rest[b]
                for i in range(dim):
                    slope = p * jacobian[r, i, a]
                    if slope != 0.0:
                        for b in range(a + 1):
                            table[a, b] += slope * pushed[i, b]
        for a in range(width):
            for b in range(a):
                table[b, a] = table[a, b]
