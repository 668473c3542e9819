"""Compiled E-step for two latent coordinates: exact sums over polygons."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.buffers import lengthen, lengthen_rows
from pyrolvm.exact.edge_moments import edge_moments, nearest_point
from pyrolvm.exact.propagation_kernel import project
from pyrolvm.exact.slice_moments import slice_moments

# Closed forms err by 1e-16 of the density at the nearest point: slice above this multiple of p(x).
DAMAGE = 300.0
# Masses below this are rounding in the closed form.
DUST = 1e-15


@njit(cache=True, nogil=True)
def bounding_circles(corners, first, count):
    """Centre, radius and log of area/(2 pi) (at most 0) of each whitened polygon, ``(R, 4)``."""
    regions = first.shape[0]
    circle = np.empty((regions, 4))
    for r in range(regions):
        s, e = first[r], first[r] + count[r]
        x0, x1, y0, y1 = inf, -inf, inf, -inf
        area = 0.0
        for i in range(s, e):
            j = i + 1 if i + 1 < e else s
            x0, x1 = min(x0, corners[i, 0]), max(x1, corners[i, 0])
            y0, y1 = min(y0, corners[i, 1]), max(y1, corners[i, 1])
            area += (corners[i, 0] - corners[s, 0]) * (corners[j, 1] - corners[s, 1])
            area -= (corners[j, 0] - corners[s, 0]) * (corners[i, 1] - corners[s, 1])
        cx, cy = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
        radius = 0.0
        for i in range(s, e):
            radius = max(radius, (corners[i, 0] - cx) ** 2 + (corners[i, 1] - cy) ** 2)
        circle[r, 0], circle[r, 1], circle[r, 2] = cx, cy, sqrt(radius) * (1 + 1e-12)
        circle[r, 3] = log(min(1.0, max(0.5 * area, 1e-300) / 6.283185307179586))
    return circle


@njit(cache=True, nogil=True)
def place(rho, basis, corners, s, size, x, y):
    """Put one region's whitened polygon around the mean of its unbounded Gaussian.

    Returns:
        The mean's coordinates; vertices are written to x and y.
    """
    m_x, m_y = 0.0, 0.0
    for d in range(rho.shape[0]):
        m_x += basis[0, d] * rho[d]
        m_y += basis[1, d] * rho[d]
    for i in range(size):
        x[i], y[i] = corners[s + i, 0] - m_x, corners[s + i, 1] - m_y
    return m_x, m_y


@njit(cache=True, nogil=True)
def residual(rho, basis, w_x, w_y):
    """Log joint density at a whitened point, up to the constants of the E-step."""
    total = 0.0
    for d in range(rho.shape[0]):
        rest = rho[d] - basis[0, d] * w_x - basis[1, d] * w_y
        total += rest * rest
    return -0.5 * total


@njit(cache=True, nogil=True)
def finish(row, inverse, mass, a_x, a_y, b_xx, b_xy, b_yy, w_x, w_y):
    """Write mean of u - c and covariance of u from whitened moments about the point w."""
    a_x, a_y = a_x / mass, a_y / mass
    b_xx, b_xy, b_yy = b_xx / mass - a_x * a_x, b_xy / mass - a_x * a_y, b_yy / mass - a_y * a_y
    p, q, r = inverse[0, 0], inverse[0, 1], inverse[1, 1]
    row[1] = p * (w_x + a_x) + q * (w_y + a_y)
    row[2] = r * (w_y + a_y)
    row[3] = p * p * b_xx + 2 * p * q * b_xy + q * q * b_yy
    row[4] = p * r * b_xy + q * r * b_yy
    row[5] = r * r * b_yy


@njit(cache=True, nogil=True)
def polygon_pairs(
    y,
    slack,
    keep,
    projection,
    values,
    anchors,
    basis,
    inverse,
    log_det,
    corners,
    shift,
    square,
    first,
    count,
    circle,
):
    """Integrate the joint density over every polygon that can matter, datum by datum.

    A polygon is skipped if an upper bound (bounding circle, then exact distance) lies ``keep``
    nats below the exact value of the best one so far.

    Args:
        y: Reduced data, ``(N, D')``.
        slack: Rounding allowance of the bounds, in nats, ``(N,)``.
        keep: How many nats below the best polygon still count.
        projection: See :class:`~pyrolvm.exact.geometry.RegionGeometry`, likewise the next seven.
        values: ``(R, D')``.
        anchors: ``(R, 2)``.
        basis: ``(R, 2, D' + 2)``.
        inverse: ``(R, 2, 2)``.
        log_det: ``(R,)``.
        corners: ``(V, 2)``.
        shift: ``(R, 2)``.
        square: ``(R,)``.
        first: First vertex of each polygon, ``(R,)``.
        count: Number of its vertices, ``(R,)``.
        circle: From :func:`bounding_circles`.

    Returns:
        Log evidence ``(N,)``, E log joint ``(N,)``, number of kept pairs of each datum ``(N,)``;
        for the pairs: region, and rows (probability, mean of u - c, covariance xx, xy, yy).
    """
    size, width = y.shape
    regions = values.shape[0]
    bound = np.empty(regions)
    log_evidence, energy = np.empty(size), np.empty(size)
    counts = np.zeros(size, np.int64)
    capacity = 16 * size + regions
    region, joint = np.empty(capacity, np.int32), np.empty(capacity)
    moment = np.empty((capacity, 6))
    peaks = np.empty(regions)
    rho = np.empty(width + 2)
    longest = 0
    for r in range(regions):
        longest = max(longest, count[r])
    px, py = np.empty(longest), np.empty(longest)
    used = 0
    projected = np.empty(projection.shape[1])
    for n in range(size):
        project(y[n], projection, projected)
        y_square = 0.0
        for d in range(width):
            y_square += y[n, d] * y[n, d]
        best, top = 0, -inf
        for r in range(regions):
            m_x = projected[regions + r] - shift[r, 0]
            m_y = projected[2 * regions + r] - shift[r, 1]
            off_x, off_y = m_x - circle[r, 0], m_y - circle[r, 1]
            gap = max(sqrt(off_x * off_x + off_y * off_y) - circle[r, 2], 0.0)
            peak = m_x * m_x + m_y * m_y - y_square + 2 * projected[r] - square[r]
            bound[r] = 0.5 * (peak - gap * gap) - log_det[r] + circle[r, 3]
            if bound[r] > top:
                best, top = r, bound[r]
        threshold = -inf
        begin = used
        highest = -inf
        for turn in range(regions + 1):
            r = best if turn == 0 else turn - 1
            if (turn > 0 and r == best) or bound[r] + slack[n] < threshold:
                continue
            for d in range(width):
                rho[d] = y[n, d] - values[r, d]
            rho[width], rho[width + 1] = -anchors[r, 0], -anchors[r, 1]
            m_x, m_y = place(rho, basis[r], corners, first[r], count[r], px, py)
            near_x, near_y, _ = nearest_point(px, py, count[r])
            distance = near_x * near_x + near_y * near_y
            w_x, w_y = m_x + near_x, m_y + near_y
            exponent = residual(rho, basis[r], w_x, w_y)
            level = exponent - log_det[r]
            if level + circle[r, 3] < threshold:
                continue
            mass, a_x, a_y, b_xx, b_xy, b_yy = edge_moments(px, py, count[r], distance)
            b_xx += near_x * (near_x * mass - 2 * a_x)
            b_xy += near_x * near_y * mass - near_x * a_y - near_y * a_x
            b_yy += near_y * (near_y * mass - 2 * a_y)
            a_x -= near_x * mass
            a_y -= near_y * mass
            if used == capacity:
                capacity = 2 * capacity + regions
                region = lengthen(region, used, capacity)
                joint = lengthen(joint, used, capacity)
                moment = lengthen_rows(moment, used, capacity)
            region[used] = r
            peaks[used - begin] = level
            highest = max(highest, level)
            if mass > DUST:
                finish(moment[used], inverse[r], mass, a_x, a_y, b_xx, b_xy, b_yy, w_x, w_y)
                near = near_x * a_x + near_y * a_y
                joint[used] = exponent - (near + 0.5 * (b_xx + b_yy)) / mass
                moment[used, 0] = mass
                threshold = max(threshold, level + log(mass) - keep)
            else:
                for k in range(6):
                    moment[used, k] = 0.0
                joint[used] = 0.0
            used += 1
        total = 0.0
        for i in range(begin, used):
            total += moment[i, 0] * exp(peaks[i - begin] - highest)
        # where the closed form's error could show in p(x) or the moments, integrate by slices
        again = 0.0
        for i in range(begin, used):
            r = region[i]
            relative = exp(peaks[i - begin] - highest)
            if relative > 1e-3 * DAMAGE * total or total <= 0.0:
                for d in range(width):
                    rho[d] = y[n, d] - values[r, d]
                rho[width], rho[width + 1] = -anchors[r, 0], -anchors[r, 1]
                m_x, m_y = place(rho, basis[r], corners, first[r], count[r], px, py)
                near_x, near_y, _ = nearest_point(px, py, count[r])
                distance = near_x * near_x + near_y * near_y
                if relative * (1 + distance) > DAMAGE * total or total <= 0.0:
                    w_x, w_y = m_x + near_x, m_y + near_y
                    mass, a_x, a_y, b_xx, b_xy, b_yy = slice_moments(
                        px, py, count[r], near_x, near_y
                    )
                    moment[i, 0] = mass
                    if mass > 0.0:
                        finish(moment[i], inverse[r], mass, a_x, a_y, b_xx, b_xy, b_yy, w_x, w_y)
                        near = near_x * a_x + near_y * a_y
                        joint[i] = peaks[i - begin] + log_det[r]
                        joint[i] -= (near + 0.5 * (b_xx + b_yy)) / mass
            moment[i, 0] *= relative
            again += moment[i, 0]
        mean_energy = 0.0
        for i in range(begin, used):
            moment[i, 0] /= again
            mean_energy += moment[i, 0] * joint[i]
        log_evidence[n] = highest + log(again)
        energy[n] = mean_energy
        counts[n] = used - begin
    region, moment = lengthen(region, used, used), lengthen_rows(moment, used, used)
    return log_evidence, energy, counts, region, moment
