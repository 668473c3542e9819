"""Compiled steps between regions and polyhedra: bounds, placement, and the way back."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import inf, log, pi, sqrt

import numpy as np
from numba import njit

LOG_ROOT_2PI_CUBED = 1.5 * log(2 * pi)


@njit(cache=True, nogil=True)
def bounding_spheres(
    corners, first, count, facet_first, facet_count, normals, offsets, corner_first, corner_count,
    facet_corners,
):  # fmt: skip
    """Centre, radius and log of volume/(2 pi)^1.5 (at most 0) of each polyhedron, ``(R, 5)``."""
    regions = first.shape[0]
    sphere = np.empty((regions, 5))
    for r in range(regions):
        s, e = first[r], first[r] + count[r]
        radius = 0.0
        for d in range(3):
            low, high = inf, -inf
            for i in range(s, e):
                low, high = min(low, corners[i, d]), max(high, corners[i, d])
            sphere[r, d] = 0.5 * (low + high)
        for i in range(s, e):
            square = 0.0
            for d in range(3):
                square += (corners[i, d] - sphere[r, d]) ** 2
            radius = max(radius, square)
        sphere[r, 3] = sqrt(radius) * (1 + 1e-12)
        volume = 0.0
        for f in range(facet_first[r], facet_first[r] + facet_count[r]):
            height, area = offsets[f], 0.0
            for d in range(3):
                height -= normals[f, d] * sphere[r, d]
            i = s + facet_corners[corner_first[f]]
            for c in range(1, corner_count[f] - 1):
                j = s + facet_corners[corner_first[f] + c]
                k = s + facet_corners[corner_first[f] + c + 1]
                for d in range(3):
                    g, h = (d + 1) % 3, (d + 2) % 3
                    cross = (corners[j, g] - corners[i, g]) * (corners[k, h] - corners[i, h])
                    cross -= (corners[j, h] - corners[i, h]) * (corners[k, g] - corners[i, g])
                    area += 0.5 * normals[f, d] * cross
            volume += height * area / 3
        # a flat polyhedron's volume is rounding: half an order on top
        sphere[r, 4] = min(0.0, log(max(volume, 1e-300)) - LOG_ROOT_2PI_CUBED)
        if not volume > 1e-9 * sphere[r, 3] ** 3:
            sphere[r, 4] = 0.0
    return sphere


@njit(cache=True, nogil=True)
def place(rho, basis, corners, s, size, points, mean):
    """Put one region's whitened polyhedron around the mean of its unbounded Gaussian."""
    for k in range(3):
        mean[k] = 0.0
        for d in range(rho.shape[0]):
            mean[k] += basis[k, d] * rho[d]
    for i in range(size):
        for k in range(3):
            points[i, k] = corners[s + i, k] - mean[k]


@njit(cache=True, nogil=True)
def remainder(y, values, anchors, rho):
    """Write the augmented residual [y - f_c ; -c]."""
    width = y.shape[0]
    for d in range(width):
        rho[d] = y[d] - values[d]
    for k in range(3):
        rho[width + k] = -anchors[k]


@njit(cache=True, nogil=True)
def residual(rho, basis, w):
    """Log joint density at a whitened point, up to the constants of the E-step."""
    total = 0.0
    for d in range(rho.shape[0]):
        rest = rho[d] - basis[0, d] * w[0] - basis[1, d] * w[1] - basis[2, d] * w[2]
        total += rest * rest
    return -0.5 * total


@njit(cache=True, nogil=True)
def centre(moments, near):
    """Refer moments about 0 to the point ``near``."""
    mass = moments[0]
    place = 4
    for d in range(3):
        for e in range(d, 3):
            moments[place] -= near[d] * moments[1 + e] + near[e] * moments[1 + d]
            moments[place] += near[d] * near[e] * mass
            place += 1
    for d in range(3):
        moments[1 + d] -= near[d] * mass


@njit(cache=True, nogil=True)
def finish(row, inverse, moments, w):
    """Write mean of u - c and covariance of u from whitened moments about the point w."""
    mass = moments[0]
    a, b, c = moments[1] / mass, moments[2] / mass, moments[3] / mass
    xx, xy, xz = moments[4] / mass - a * a, moments[5] / mass - a * b, moments[6] / mass - a * c
    yy, yz, zz = moments[7] / mass - b * b, moments[8] / mass - b * c, moments[9] / mass - c * c
    a, b, c = w[0] + a, w[1] + b, w[2] + c
    p, q, r = inverse[0, 0], inverse[0, 1], inverse[0, 2]
    s, t, v = inverse[1, 1], inverse[1, 2], inverse[2, 2]
    row[1], row[2], row[3] = p * a + q * b + r * c, s * b + t * c, v * c
    # rows of inverse times covariance
    px, py, pz = p * xx + q * xy + r * xz, p * xy + q * yy + r * yz, p * xz + q * yz + r * zz
    sy, sz = s * yy + t * yz, s * yz + t * zz
    row[4] = px * p + py * q + pz * r
    row[5] = py * s + pz * t
    row[6] = pz * v
    row[7] = sy * s + sz * t
    row[8] = sz * v
    row[9] = v * zz * v


@njit(cache=True, nogil=True)
def spend(near, moments):
    """Posterior mean of -|w|^2/2 + |near|^2/2, from moments about ``near``."""
    along = near[0] * moments[1] + near[1] * moments[2] + near[2] * moments[3]
    return -(along + 0.5 * (moments[4] + moments[7] + moments[9])) / moments[0]


@njit(cache=True, nogil=True)
def finish_draw(point, mean, anchor, inverse, row):
    """Turn a point about the Gaussian's mean to whitened coordinates of the latent variable."""
    a, b, c = point[0] + mean[0], point[1] + mean[1], point[2] + mean[2]
    row[0] = anchor[0] + inverse[0, 0] * a + inverse[0, 1] * b + inverse[0, 2] * c
    row[1] = anchor[1] + inverse[1, 1] * b + inverse[1, 2] * c
    row[2] = anchor[2] + inverse[2, 2] * c
