"""Compiled integrals along the edges of a convex polyhedron, for the sums over its flags.

All are scaled by exp(square / 2), with ``square`` the polyhedron's squared distance from 0; see
:mod:`pyrolvm.exact.polytopes.polyhedron_moments` for the sums.

References:
    Van Oosterom & Strackee (1983), The solid angle of a plane triangle.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import atan2, erf, erfc, exp, pi, sqrt

from numba import njit

from pyrolvm.exact.special import ROOT_HALF, ROOT_HALF_PI, erfcx, scaled_tail

# Scaling by exp(d^2/2) as a factor works up to this d^2.
FACTOR_LIMIT = 1000.0
TINY = 1e-300
SOLID = 1 / (4 * pi)


@njit(cache=True, nogil=True)
def inner_kernel(radius, scale):
    """Scaled erf(r / sqrt 2) / r, entire in r^2."""
    if radius < 1e-5:
        return scale * (1.0 - radius * radius / 6.0) / ROOT_HALF_PI
    return scale * erf(radius * ROOT_HALF) / radius


@njit(cache=True, nogil=True)
def outer_kernel(radius, density, square, scale):
    """Scaled erfc(r / sqrt 2) / r, given exp(-(r^2 - square)/2)."""
    if square < FACTOR_LIMIT:
        return scale * erfc(radius * ROOT_HALF) / radius
    return density * erfcx(radius * ROOT_HALF) / radius


@njit(cache=True, nogil=True)
def edge_panel(nodes, weights, low, high, rho, square, scale, away, b_1, m_1, e_1, b_2, m_2, e_2):
    """Integrate (level - kernel)/(b^2 + t^2) over part of an edge, for both of its facets.

    Args:
        nodes: Gauss-Legendre nodes on [0, 1].
        weights: Their weights.
        low: Begin of the part.
        high: Its end.
        rho: Squared distance of the edge's line from 0.
        square: Squared distance of the polyhedron from 0.
        scale: exp(square / 2).
        away: Whether to take erfc in place of erf.
        b_1: Squared distance of the foot from the edge's line in the first facet.
        m_1: The first facet's level for the mass.
        e_1: Its level for the density.
        b_2: The same three for the second facet.
        m_2: See above.
        e_2: See above.

    Returns:
        Mass and density integrals of the first facet, then of the second.
    """
    length = high - low
    s_m1, s_e1, s_m2, s_e2 = 0.0, 0.0, 0.0, 0.0
    for k in range(nodes.shape[0]):
        t = low + length * nodes[k]
        t *= t
        r = rho + t
        density = exp(-0.5 * (r - square))
        radius = sqrt(r)
        if away:
            kernel = outer_kernel(radius, density, square, scale)
        else:
            kernel = inner_kernel(radius, scale)
        factor = weights[k] / (b_1 + t + TINY)
        s_m1 += factor * (m_1 - kernel)
        s_e1 += factor * (e_1 - density)
        factor = weights[k] / (b_2 + t + TINY)
        s_m2 += factor * (m_2 - kernel)
        s_e2 += factor * (e_2 - density)
    return s_m1 * length, s_e1 * length, s_m2 * length, s_e2 * length


@njit(cache=True, nogil=True)
def angles(h, b, t1, t2, r1, r2):
    """Angle of an edge seen from the foot, and solid angle of its infinite triangle beyond."""
    plane = atan2(b * (t2 - t1), b * b + t1 * t2)
    solid = atan2(h * b * (t2 * r1 - t1 * r2), b * b * r1 * r2 + h * h * t1 * t2)
    return plane, solid


@njit(cache=True, nogil=True)
def edge_density(rho, t1, t2, square):
    """Integral of the density along an edge, times exp(square / 2)."""
    if t1 < 0.0 < t2:
        line = 0.5 * (erf(t2 * ROOT_HALF) - erf(t1 * ROOT_HALF)) * exp(-0.5 * (rho - square))
    else:
        near, far = (t1, t2) if t1 >= 0.0 else (-t2, -t1)
        line = scaled_tail(near) * exp(-0.5 * (rho + near * near - square))
        line -= scaled_tail(far) * exp(-0.5 * (rho + far * far - square))
    return line / (2 * pi)


@njit(cache=True, nogil=True)
def spread(h, b, level, density, rho, reach, length, square):
    """Size of what :func:`edge_panel` subtracts from one another for one flag's mass."""
    near = rho + reach * reach
    height = max(density, exp(-0.5 * (near - square)))
    height = max(abs(h) * level, height)
    return SOLID * height * min(pi, abs(b) * length / (b * b + reach * reach + TINY))
