"""Compiled steps between data, whitened polytopes and the latent coordinates of a region."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import inf, log, sqrt

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def bounding_spheres(corners, first, count):
    """Centre, radius and log of volume/(2 pi)^(S/2), bounded by the box, ``(R, S + 2)``."""
    regions, dim = first.shape[0], corners.shape[1]
    sphere = np.empty((regions, dim + 2))
    for r in range(regions):
        s, e = first[r], first[r] + count[r]
        volume = -0.5 * dim * log(6.283185307179586)
        for k in range(dim):
            low, high = inf, -inf
            for i in range(s, e):
                low, high = min(low, corners[i, k]), max(high, corners[i, k])
            sphere[r, k] = 0.5 * (low + high)
            volume += log(max(high - low, 1e-300))
        radius = 0.0
        for i in range(s, e):
            square = 0.0
            for k in range(dim):
                square += (corners[i, k] - sphere[r, k]) ** 2
            radius = max(radius, square)
        sphere[r, dim] = sqrt(radius) * (1 + 1e-12)
        sphere[r, dim + 1] = min(volume, 0.0)
    return sphere


@njit(cache=True, nogil=True)
def find_mean(datum, value, anchor, basis, rho, mean):
    """Write the augmented residual and the whitened mean of a region's unbounded Gaussian.

    Returns:
        Log joint density at the mean, up to the constants of the E-step.
    """
    width, dim = datum.shape[0], anchor.shape[0]
    for d in range(width):
        rho[d] = datum[d] - value[d]
    for k in range(dim):
        rho[width + k] = -anchor[k]
        mean[k] = 0.0
    for k in range(dim):
        for d in range(width + dim):
            mean[k] += basis[k, d] * rho[d]
    return peak_at(rho, basis, mean)


@njit(cache=True, nogil=True)
def peak_at(rho, basis, point):
    """Log joint density at a whitened point, up to the constants of the E-step."""
    total = 0.0
    for d in range(rho.shape[0]):
        rest = rho[d]
        for k in range(point.shape[0]):
            rest -= basis[k, d] * point[k]
        total += rest * rest
    return -0.5 * total


@njit(cache=True, nogil=True)
def finish(row, inverse, mean, offset, covariance):
    """Write mean of u - c and covariance of u from whitened moments about the mean.

    Args:
        row: Receives them behind its first entry.
        inverse: Upper triangular, from w to u.
        mean: Whitened mean of the unbounded Gaussian; receives that on the region.
        offset: Mean on the region less that of the unbounded Gaussian.
        covariance: Whitened covariance.
    """
    dim = mean.shape[0]
    half = np.zeros((dim, dim))
    for i in range(dim):
        mean[i] += offset[i]
    for i in range(dim):
        row[1 + i] = 0.0
        for k in range(i, dim):
            row[1 + i] += inverse[i, k] * mean[k]
            for j in range(dim):
                half[i, j] += inverse[i, k] * covariance[k, j]
    column = 1 + dim
    for i in range(dim):
        for j in range(i, dim):
            row[column] = 0.0
            for k in range(j, dim):
                row[column] += half[i, k] * inverse[j, k]
            column += 1
