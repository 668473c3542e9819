r"""Compiled closed form for the moments of N(0, I) on a convex polyhedron: sums over edges.

Everything is scaled by exp(d^2/2), d the polyhedron's distance from 0. The pyramid from 0 over a
facet at height h, cut into the triangles from the foot of 0 to the facet's edges, has the mass

.. math:: \sum_e \frac{h b}{4 \pi} \int_{t_1}^{t_2} \frac{g(h) - g(r)}{b^2 + t^2} \, dt, \qquad
          g(r) = \frac{\operatorname{erf}(r / \sqrt 2)}{r}, \quad r^2 = h^2 + b^2 + t^2,

with heights, distances and ends from :mod:`pyrolvm.exact.polytopes.polyhedron_flags`. The
integrand is entire, whatever vanishes, and no case distinction (is 0 inside? is the foot inside
the facet?) is needed. A polyhedron that keeps away from 0 takes erfc in place of erf and the
opposite sign: then the pyramids are infinite, and g(h) is left out for facets that keep away from
their foot, for its integrals cancel. With K the integral of the density over a facet (the same
sum with exp(-r^2/2)) and L that along an edge with unit normal m within the facet,

.. math:: \int_P w \, \phi = - \sum_f n_f K_f, \qquad
          \int_P w w^\top \phi = P I - \sum_f \Big( h_f n_f K_f - \sum_e m_e L_e \Big) n_f^\top .

The integrals along an edge run over both its facets at once. Far along an edge, the algebraic
part is integrated in closed form (angles and solid angles), and only the normal tail is left.
Errors are absolute, about 1e-16 of the density at the nearest point;
:mod:`pyrolvm.exact.polytopes.polyhedron_slices` serves where that matters.

References:
    Owen (1956), Tables for computing bivariate normal probabilities (the same in the plane).
    Van Oosterom & Strackee (1983), The solid angle of a plane triangle.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body

from __future__ import annotations

from math import exp, pi, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.polytopes.polyhedron_edges import (
    FACTOR_LIMIT,
    SOLID,
    angles,
    edge_density,
    edge_panel,
    inner_kernel,
    outer_kernel,
    spread,
)
from pyrolvm.exact.special import NODES_16, NODES_24, REACH, WEIGHTS_16, WEIGHTS_24

# Squared distance from which a polyhedron keeps away from 0.
AWAY = 6.25
# Facets keep away from their foot from this squared distance on.
FOOT_AWAY = 4.0
# Up to this distance along an edge the integrand is taken as a whole.
INNER = 3.0
DENSITY = (2 * pi) ** -1.5

# For what is next to nothing in a sum.
_nodes, _weights = np.polynomial.legendre.leggauss(6)
NODES_6, WEIGHTS_6 = 0.5 * (_nodes + 1), 0.5 * _weights
_nodes, _weights = np.polynomial.legendre.leggauss(10)
NODES_10, WEIGHTS_10 = 0.5 * (_nodes + 1), 0.5 * _weights


@njit(cache=True, nogil=True)
def facet_levels(planes, facets, square, scale, away, levels):
    """Write the levels of mass and density at each facet's foot, and 0."""
    for a in range(facets):
        h = planes[a, 0]
        levels[a, 2] = 0.0
        if away:
            if planes[a, 1] < FOOT_AWAY and h != 0.0:
                density = exp(-0.5 * (h * h - square))
                levels[a, 0] = outer_kernel(abs(h), density, square, scale)
                levels[a, 1] = density
            else:
                levels[a, 0], levels[a, 1] = 0.0, 0.0
        else:
            levels[a, 0] = inner_kernel(abs(h), scale)
            levels[a, 1] = exp(-0.5 * (h * h - square))


@njit(cache=True, nogil=True)
def closed_moments(
    flags, ends, number, planes, begin, facets, normals, square, effort, levels, out
):
    """Mass, first and second moments about 0, times exp(square / 2).

    Args:
        flags: From :func:`~pyrolvm.exact.polytopes.polyhedron_flags.trace_flags`.
        ends: Likewise.
        number: Number of flags.
        planes: Likewise.
        begin: The polyhedron's first facet.
        facets: Number of its facets.
        normals: Outward unit normals of all facets.
        square: Squared distance of the polyhedron from 0.
        effort: 2 for full accuracy; 1 and 0 for errors of about 1e-12 and 1e-6 of the density at
            the nearest point, in a half and a third of the time.
        levels: Work space, ``(facets, 3)``: levels of mass and density, sum of the density.
        out: Receives P, three first and six second moments (xx, xy, xz, yy, yz, zz).

    Returns:
        Sum of the absolute values that were added up: times 1e-16, the rounding error of P.
    """
    away = square > AWAY
    scale = exp(0.5 * square) if square < FACTOR_LIMIT else 0.0
    sign = -1.0 if away else 1.0
    facet_levels(planes, facets, square, scale, away, levels)
    for k in range(10):
        out[k] = 0.0
    mass, summed = 0.0, 0.0
    inner, inner_weights, outer, outer_weights = NODES_16, WEIGHTS_16, NODES_24, WEIGHTS_24
    if effort == 1:
        inner, inner_weights, outer, outer_weights = NODES_10, WEIGHTS_10, NODES_16, WEIGHTS_16
    elif effort == 0:
        inner, inner_weights, outer, outer_weights = NODES_6, WEIGHTS_6, NODES_10, WEIGHTS_10
    for k in range(number):
        twin = ends[k, 3]
        if 0 <= twin < k:
            continue
        f_1 = ends[k, 2]
        f_2 = ends[twin, 2] if twin >= 0 else f_1
        h_1, b_1, t1, t2 = planes[f_1, 0], flags[k, 0], flags[k, 1], flags[k, 2]
        h_2, b_2 = planes[f_2, 0], 0.0
        if twin >= 0:
            b_2 = flags[twin, 0]
        rho = h_1 * h_1 + b_1 * b_1
        reach = 0.0 if t1 < 0.0 < t2 else min(abs(t1), abs(t2))
        visible = rho + reach * reach - square <= REACH
        low, high = max(t1, -INNER), min(t2, INNER)
        m_1, e_1, m_2, e_2 = levels[f_1, 0], levels[f_1, 1], levels[f_2, 0], levels[f_2, 1]
        bb_1, bb_2 = b_1 * b_1, b_2 * b_2
        if visible and low < high:
            middle = 0.0 if low < 0.0 < high and high - low > INNER else high
            s_m1, s_e1, s_m2, s_e2 = edge_panel(
                inner, inner_weights, low, middle, rho, square, scale, away,
                bb_1, m_1, e_1, bb_2, m_2, e_2,
            )  # fmt: skip
            if middle < high:
                p_m1, p_e1, p_m2, p_e2 = edge_panel(
                    inner, inner_weights, middle, high, rho, square, scale, away,
                    bb_1, m_1, e_1, bb_2, m_2, e_2,
                )  # fmt: skip
                s_m1, s_e1, s_m2, s_e2 = s_m1 + p_m1, s_e1 + p_e1, s_m2 + p_m2, s_e2 + p_e2
            mass += sign * SOLID * (h_1 * b_1 * s_m1 + h_2 * b_2 * s_m2)
            summed += spread(h_1, b_1, m_1, e_1, rho, reach, high - low, square)
            summed += spread(h_2, b_2, m_2, e_2, rho, reach, high - low, square)
            levels[f_1, 2] += DENSITY * b_1 * s_e1
            levels[f_2, 2] += DENSITY * b_2 * s_e2
        # the parts beyond, or the whole edge if it is out of sight
        for side in range(2):
            if visible:
                near = max(t1, INNER) if side == 0 else max(-t2, INNER)
                far = t2 if side == 0 else -t1
                if not near < far:
                    continue
                end = min(far, sqrt(max(square + REACH - rho, near * near)))
                if near < end:
                    s_m1, s_e1, s_m2, s_e2 = edge_panel(
                        outer, outer_weights, near, end, rho, square, scale, True,
                        bb_1, 0.0, 0.0, bb_2, 0.0, 0.0,
                    )  # fmt: skip
                    mass -= SOLID * (h_1 * b_1 * s_m1 + h_2 * b_2 * s_m2)
                    summed += spread(h_1, b_1, 0.0, 0.0, rho, near, end - near, square)
                    summed += spread(h_2, b_2, 0.0, 0.0, rho, near, end - near, square)
                    levels[f_1, 2] += DENSITY * b_1 * s_e1
                    levels[f_2, 2] += DENSITY * b_2 * s_e2
            else:
                if side == 1:
                    continue
                near, far = t1, t2
            r1, r2 = sqrt(rho + near * near), sqrt(rho + far * far)
            if not away or m_1 > 0.0:
                plane, solid = angles(h_1, b_1, near, far, r1, r2)
                mass += sign * SOLID * h_1 * m_1 * plane
                summed += SOLID * abs(h_1 * m_1 * plane)
                if not away:
                    mass -= SOLID * scale * solid
                levels[f_1, 2] += DENSITY * e_1 * plane
            if twin >= 0 and (not away or m_2 > 0.0):
                plane, solid = angles(h_2, b_2, near, far, r1, r2)
                mass += sign * SOLID * h_2 * m_2 * plane
                summed += SOLID * abs(h_2 * m_2 * plane)
                if not away:
                    mass -= SOLID * scale * solid
                levels[f_2, 2] += DENSITY * e_2 * plane
        if visible:
            line = edge_density(rho, t1, t2, square)
            add_edge(out, line, flags[k, 3], flags[k, 4], flags[k, 5], normals, begin + f_1)
            if twin >= 0:
                add_edge(out, -line, flags[k, 3], flags[k, 4], flags[k, 5], normals, begin + f_2)
    for a in range(facets):
        f = begin + a
        x, y, z, k = normals[f, 0], normals[f, 1], normals[f, 2], levels[a, 2]
        out[1] -= k * x
        out[2] -= k * y
        out[3] -= k * z
        k *= planes[a, 0]
        out[4] -= k * x * x
        out[5] -= k * x * y
        out[6] -= k * x * z
        out[7] -= k * y * y
        out[8] -= k * y * z
        out[9] -= k * z * z
    out[0] = mass
    out[4] += mass
    out[7] += mass
    out[9] += mass
    return summed


@njit(cache=True, nogil=True)
def add_edge(out, line, t_x, t_y, t_z, normals, f):
    """Add one flag's part of the second moments, the symmetric part of L m n^T, m = t x n."""
    n_x, n_y, n_z = normals[f, 0], normals[f, 1], normals[f, 2]
    m_x, m_y, m_z = t_y * n_z - t_z * n_y, t_z * n_x - t_x * n_z, t_x * n_y - t_y * n_x
    out[4] += line * m_x * n_x
    out[5] += 0.5 * line * (m_x * n_y + m_y * n_x)
    out[6] += 0.5 * line * (m_x * n_z + m_z * n_x)
    out[7] += line * m_y * n_y
    out[8] += 0.5 * line * (m_y * n_z + m_z * n_y)
    out[9] += line * m_z * n_z
