"""Compiled forward recursion of values and Jacobians, and the log density that rests on it.

Plain loops beat BLAS here: the layers are small, half the units are often zero, and no thread pool
of BLAS gets in the way of ours.
"""
# ruff: noqa: PLR0912 - compiled loops are one body
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import log, pi, sqrt

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def push(h, g, codes, given, weights, biases, widths, slopes):
    """Send one point and its Jacobian through all layers.

    Args:
        h: Row 0 holds the point, the others the identity, ``(S + 1, widest)``; overwritten.
        g: Work space of the same shape.
        codes: Codes of the hidden units; read if ``given``, written otherwise.
        given: Whether the codes are given.
        weights: Transposed weights of all layers, one after the other.
        biases: Biases of all layers.
        widths: S and the width of each layer.
        slopes: Slope after each layer; 1 after the last.

    Returns:
        The array (h or g) that holds value and Jacobian at the end.
    """
    rows = h.shape[0]
    weight, bias, unit = 0, 0, 0
    for layer in range(slopes.shape[0]):
        inputs, outputs = widths[layer], widths[layer + 1]
        for k in range(outputs):
            g[0, k] = biases[bias + k]
        for i in range(1, rows):
            for k in range(outputs):
                g[i, k] = 0.0
        for j in range(inputs):
            line = weights[weight + j * outputs : weight + (j + 1) * outputs]
            for i in range(rows):
                f = h[i, j]
                if f != 0.0:
                    row = g[i]
                    for k in range(outputs):
                        row[k] += f * line[k]
        if layer + 1 < slopes.shape[0]:
            slope = slopes[layer]
            for k in range(outputs):
                if not given:
                    codes[unit + k] = g[0, k] > 0.0
                if not codes[unit + k] and slope != 1.0:
                    for i in range(rows):
                        g[i, k] *= slope
            unit += outputs
        weight += inputs * outputs
        bias += outputs
        h, g = g, h
    return h


@njit(cache=True, nogil=True)
def widest_of(widths):
    """Largest number of units."""
    widest = 1
    for width in widths:
        widest = max(widest, width)
    return widest


@njit(cache=True, nogil=True)
def inner(a, b):
    """Inner product of two vectors."""
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return total


@njit(cache=True, nogil=True)
def subtract(a, factor, b):
    """Subtract a multiple of b from a, in place."""
    for k in range(a.shape[0]):
        a[k] -= factor * b[k]


@njit(cache=True, nogil=True)
def start(h, point):
    """Write a point and the identity into the rows of h."""
    dim = point.shape[0]
    for j in range(dim):
        h[0, j] = point[j]
        for i in range(dim):
            h[1 + i, j] = 1.0 if i == j else 0.0


@njit(cache=True, nogil=True)
def push_all(points, codes, given, weights, biases, widths, slopes):
    """Values and Jacobians at many points, ``(R, S + 1, out)``; see :func:`push`."""
    size, dim = points.shape
    widest = widest_of(widths)
    h, g = np.empty((dim + 1, widest)), np.empty((dim + 1, widest))
    out = np.empty((size, dim + 1, widths[-1]))
    for r in range(size):
        start(h, points[r])
        last = push(h, g, codes[r], given, weights, biases, widths, slopes)
        for i in range(dim + 1):
            for k in range(out.shape[2]):
                out[r, i, k] = last[i, k]
    return out


@njit(cache=True, nogil=True)
def joint_all(begin, end, points, y, weights, biases, widths, slopes, units, out):
    """Log kappa of the point's region plus the log density of its Gaussian at the point.

    Args:
        begin: First datum to work on.
        end: Datum to stop before.
        points: Whitened points, ``(P, N, S)``.
        y: Reduced data, ``(N, D')``.
        weights: See :func:`push`, likewise the next three.
        biases: Biases.
        widths: Widths.
        slopes: Slopes.
        units: Number of hidden units.
        out: Receives log densities up to what was reduced away, ``(P, N)``.
    """
    particles, _, dim = points.shape
    width = y.shape[1]
    widest = widest_of(widths)
    h, g = np.empty((dim + 1, widest)), np.empty((dim + 1, widest))
    codes = np.empty(units, np.bool_)
    # rows: residual rho, then the columns of [J ; I] on their way to Q
    table = np.empty((dim + 1, width + dim))
    for p in range(particles):
        for n in range(begin, end):
            start(h, points[p, n])
            last = push(h, g, codes, False, weights, biases, widths, slopes)
            for d in range(width):
                table[0, d] = y[n, d] - last[0, d]
                for i in range(1, dim + 1):
                    table[i, d] = last[i, d]
            for j in range(dim):
                table[0, width + j] = -points[p, n, j]
                for i in range(dim):
                    table[1 + i, width + j] = 1.0 if i == j else 0.0
            square, log_det = 0.0, 0.0
            for i in range(1, dim + 1):
                # orthogonalise twice against the columns before
                for _ in range(2):
                    for k in range(1, i):
                        subtract(table[i], inner(table[k], table[i]), table[k])
                norm = sqrt(inner(table[i], table[i]))
                for k in range(width + dim):
                    table[i, k] /= norm
                log_det += log(norm)
            for i in range(1, dim + 1):
                mean = inner(table[i], table[0])
                subtract(table[0], mean, table[i])
                square += mean * mean
            log_kappa = -0.5 * inner(table[0], table[0]) - log_det
            log_normal = log_det - 0.5 * square - 0.5 * dim * log(2 * pi)
            out[p, n] = log_kappa + log_normal


@njit(cache=True, nogil=True)
def project(y, matrix, out):
    """Multiply a row vector ``(D,)`` by a matrix ``(D, M)``, four rows at a time."""
    size, columns = matrix.shape
    for j in range(columns):
        out[j] = 0.0
    whole = size - size % 4
    for d in range(0, whole, 4):
        a, b, c, e = y[d], y[d + 1], y[d + 2], y[d + 3]
        p, q, r, s = matrix[d], matrix[d + 1], matrix[d + 2], matrix[d + 3]
        for j in range(columns):
            out[j] += (a * p[j] + b * q[j]) + (c * r[j] + e * s[j])
    for d in range(whole, size):
        a, p = y[d], matrix[d]
        for j in range(columns):
            out[j] += a * p[j]
