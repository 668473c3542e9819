r"""Compiled closed form for the moments of N(0, I) on a convex polygon: sums over edges.

With d the polygon's distance from 0, everything is scaled by exp(d^2/2). For an edge with outward
normal n, tangent t, signed distance h and tangential ends t_1, t_2:

.. math:: P = [0 \in P] - \sum_e \int_{t_1}^{t_2} \frac{h}{h^2 + y^2}
              e^{-(h^2 + y^2)/2} \frac{dy}{2 \pi}, \qquad
          \int_P p \, \phi = - \sum_e n K_e, \\
          \int_P p p^\top \phi = P I
          - \sum_e \big( h n K_e + t \, [\phi_2(v_1) - \phi_2(v_2)] \big) n^\top

where K_e is the integral of the density along the edge. The first integral is a difference of
two Owen T functions near 0 and a smooth Gauss-Legendre sum elsewhere. Errors are absolute, about
1e-16 of the density at the nearest point; :mod:`pyrolvm.exact.slice_moments` serves where that
matters.

References:
    Owen (1956), Tables for computing bivariate normal probabilities.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912 - compiled loops are one body

from __future__ import annotations

from math import atan2, erf, exp, pi, sqrt

from numba import njit

from pyrolvm.exact.special import (
    NODES_16,
    NODES_24,
    REACH,
    ROOT_HALF,
    ROOT_HALF_PI,
    WEIGHTS_16,
    WEIGHTS_24,
    scaled_tail,
)

INVERSE_2PI = 1 / (2 * pi)
NEAR_SQUARE = 6.25


@njit(cache=True, nogil=True)
def owen_t(h, t):
    """Owen's T(h, t/h) for h >= 0: mass of the wedge behind a line, from its foot to t."""
    s = abs(t)
    if s == 0.0:
        return 0.0
    first, ratio, total = (h, s / h, 0.0) if s <= h else (s, h / s, 0.25)
    inner = 0.0
    square = 0.5 * first * first
    if square < 45.0:
        for node, weight in zip(NODES_16, WEIGHTS_16):  # noqa: B905
            x = ratio * node
            f = 1.0 + x * x
            inner += weight * exp(-square * f) / f
        inner *= ratio * INVERSE_2PI
    if s > h:
        total -= 0.25 * erf(h * ROOT_HALF) * erf(s * ROOT_HALF) + inner
    else:
        total = inner
    return total if t > 0.0 else -total


@njit(cache=True, nogil=True)
def far_wedge(h, low, high, square):
    """Scaled mass behind a line that keeps away from 0, for 0 <= low <= y <= high."""
    window = REACH + square - h * h
    high = min(high, sqrt(max(window, low * low)))
    total = 0.0
    length = high - low
    for node, weight in zip(NODES_24, WEIGHTS_24):  # noqa: B905
        y = low + length * node
        r = h * h + y * y
        total += weight * exp(-0.5 * (r - square)) / r
    return total * length * h * INVERSE_2PI


@njit(cache=True, nogil=True)
def nearest_point(x, y, size):
    """Nearest point of a convex polygon to 0, by edges.

    Returns:
        Its coordinates and whether 0 is inside (then the point is 0).
    """
    inside = True
    best, bx, by = 1e300, 0.0, 0.0
    for i in range(size):
        j = i + 1 if i + 1 < size else 0
        ex, ey = x[j] - x[i], y[j] - y[i]
        if x[i] * ey - y[i] * ex < 0.0:
            inside = False
            square = ex * ex + ey * ey
            where = -(x[i] * ex + y[i] * ey)
            where = 0.0 if where <= 0.0 else (1.0 if where >= square else where / square)
            if where <= 0.5:
                px, py = x[i] + where * ex, y[i] + where * ey
            else:
                px, py = x[j] - (1.0 - where) * ex, y[j] - (1.0 - where) * ey
            distance = px * px + py * py
            if distance < best:
                best, bx, by = distance, px, py
    return bx, by, inside


@njit(cache=True, nogil=True)
def edge_moments(x, y, size, square):
    """Mass, first and second moments about 0, times exp(square / 2).

    Args:
        x: Abscissae of the vertices, counter-clockwise; the first ``size`` count.
        y: Ordinates.
        size: Number of vertices.
        square: Squared distance of the polygon from 0.

    Returns:
        P, two first and three second moments (xx, xy, yy).
    """
    mass, m_x, m_y, m_xx, m_xy, m_yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(size):
        j = i + 1 if i + 1 < size else 0
        ex, ey = x[j] - x[i], y[j] - y[i]
        length = sqrt(ex * ex + ey * ey)
        if length == 0.0:
            continue
        tx, ty = ex / length, ey / length
        r_i, r_j = x[i] * x[i] + y[i] * y[i], x[j] * x[j] + y[j] * y[j]
        if r_i <= r_j:
            h = x[i] * ty - y[i] * tx
            t1 = x[i] * tx + y[i] * ty
            t2 = t1 + length
        else:
            h = x[j] * ty - y[j] * tx
            t2 = x[j] * tx + y[j] * ty
            t1 = t2 - length
        # angles at 0 add up to the winding number, whatever lies on an edge or a vertex
        if square < NEAR_SQUARE and h != 0.0:
            mass += atan2(h * length, h * h + t1 * t2) * INVERSE_2PI * exp(0.5 * square)
        height = abs(h)
        across = t1 < 0.0 < t2
        reach = 0.0 if across else min(abs(t1), abs(t2))
        near = h * h + reach * reach
        if near - square > REACH:
            continue
        # wedge behind the edge
        if h == 0.0:
            wedge = 0.0
        elif near < NEAR_SQUARE:
            wedge = (owen_t(height, t2) - owen_t(height, t1)) * exp(0.5 * square)
        elif across:
            wedge = far_wedge(height, 0.0, t2, square) + far_wedge(height, 0.0, -t1, square)
        else:
            wedge = far_wedge(height, reach, max(abs(t1), abs(t2)), square)
        mass -= wedge if h >= 0.0 else -wedge
        # density along the edge
        e_i, e_j = exp(-0.5 * (r_i - square)), exp(-0.5 * (r_j - square))
        if across:
            line = exp(-0.5 * (h * h - square)) * 0.5 * (erf(t2 * ROOT_HALF) - erf(t1 * ROOT_HALF))
        elif t1 >= 0.0:
            line = scaled_tail(t1) * e_i - scaled_tail(t2) * e_j
        else:
            line = scaled_tail(-t2) * e_j - scaled_tail(-t1) * e_i
        line *= 2 * ROOT_HALF_PI * INVERSE_2PI
        jump = (e_i - e_j) * INVERSE_2PI
        nx, ny = ty, -tx
        m_x -= nx * line
        m_y -= ny * line
        qx, qy = h * nx * line + tx * jump, h * ny * line + ty * jump
        m_xx -= qx * nx
        m_xy -= 0.5 * (qx * ny + qy * nx)
        m_yy -= qy * ny
    return mass, m_x, m_y, m_xx + mass, m_xy, m_yy + mass
