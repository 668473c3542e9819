"""Compiled E-step for four and more latent coordinates: sums over polytopes, with errors."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.buffers import lengthen, lengthen_rows
from pyrolvm.exact.polytopes.lattice_moments import add_points, mean_and_error, turn_back
from pyrolvm.exact.polytopes.lattice_pair import look, make_space, place_polytope
from pyrolvm.exact.polytopes.lattice_rule import SHIFTS, draw_shifts
from pyrolvm.exact.polytopes.lattice_whitened import (
    bounding_spheres,
    find_mean,
    finish,
    peak_at,
)
from pyrolvm.exact.propagation_kernel import project

# Relative standard error of p(x) aimed at, and most points spent on a datum.
TARGET = 1e-4
MOST_POINTS = 2**17
# Largest factor by which the error may fall where the points double.
LARGEST_GAIN = 4.0
# Points of the first lattice; one for regions this many nats below the best one so far.
BEGIN = 4
FAINT = 12.0


@njit(cache=True, nogil=True)
def error_of(mass, error, scale, bound, points):
    """Standard error in units of exp(scale) and the scale to use, also where no point has hit.

    Weights are at most exp(bound): where none of n points hits, three bounds over n hold the
    mass with 95 percent.
    """
    if mass > 0.0:
        return error, scale
    return 1.0 / (SHIFTS * points), bound


@njit(cache=True, nogil=True)
def lattice_pairs(
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
    facet_first,
    facet_count,
    normals,
    offsets,
    corner_first,
    corner_count,
    facet_corners,
    seed,
    target=TARGET,
    most_points=MOST_POINTS,
):
    """Integrate the joint density over every polytope that can matter, datum by datum.

    A polytope is skipped if an upper bound (bounding sphere, then facets, then minimax tilting)
    lies ``keep`` nats below the estimate of the best one so far. All others get a few lattice
    points; then the one with the largest error gets twice as many, until the sum is as accurate
    as wanted. The lattice's shifts depend on seed and region only: results do not depend on how
    data are cut into chunks, and equal data have equal results.

    Args:
        y: Reduced data, ``(N, D')``.
        slack: Rounding allowance of the bounds, in nats, ``(N,)``.
        keep: How many nats below the best polytope still count.
        projection: See :class:`~pyrolvm.exact.geometry.RegionGeometry`, likewise the next eight.
        values: ``(R, D')``.
        anchors: ``(R, S)``.
        basis: ``(R, S, D' + S)``.
        inverse: ``(R, S, S)``.
        log_det: ``(R,)``.
        corners: Whitened vertices, ``(V, S)``.
        shift: ``(R, S)``.
        square: ``(R,)``.
        first: First vertex of each polytope, ``(R,)``.
        count: Number of its vertices, ``(R,)``.
        facet_first: First facet of each polytope, ``(R,)``.
        facet_count: Number of its facets, ``(R,)``.
        normals: Outward unit normals in whitened coordinates, ``(F, S)``.
        offsets: n.w <= offset on the polytope, ``(F,)``.
        corner_first: Not used: vertices are only projected.
        corner_count: Not used.
        facet_corners: Not used.
        seed: Seed of the lattice's shifts.
        target: Relative standard error of p(x) to reach.
        most_points: Most points spent on a datum, unless its first looks cost more.

    Returns:
        Log evidence ``(N,)``, E log joint ``(N,)``, number of kept pairs of each datum ``(N,)``;
        for the pairs: region, and rows (probability, mean of u - c, covariance of u, upper
        triangle row by row); and the standard error of the log evidence, ``(N,)``.
    """
    size, width = y.shape
    regions, dim = anchors.shape
    outer, columns = dim - 2, 1 + dim + dim * (dim + 1) // 2
    sphere = bounding_spheres(corners, first, count)
    most_facets, most_corners = 1, 1
    for r in range(regions):
        most_facets = max(most_facets, facet_count[r])
        most_corners = max(most_corners, count[r])
    space = make_space(dim, most_facets, most_corners)
    room, points, frame = space[0], space[1], space[2]
    log_evidence, energy, deviation = np.empty(size), np.empty(size), np.empty(size)
    counts = np.zeros(size, np.int64)
    capacity = 16 * size + regions
    region, rows = np.empty(capacity, np.int32), np.empty((capacity, columns))
    # of the pairs of one datum; no datum has more than there are regions
    level, bound, scale = np.empty(regions), np.empty(regions), np.empty(regions)
    mass, error, joint = np.empty(regions), np.empty(regions), np.empty(regions)
    number, pair = np.empty(regions, np.int64), np.empty(regions, np.int64)
    ceiling = np.empty(regions)
    store = 64
    sums = np.zeros((store, SHIFTS * columns))
    rho, mean, covariance = np.empty(width + dim), np.empty(dim), np.empty((dim, dim))
    offset = np.empty(dim)
    projected = np.empty(projection.shape[1])
    used = 0
    for n in range(size):
        project(y[n], projection, projected)
        y_square = 0.0
        for d in range(width):
            y_square += y[n, d] * y[n, d]
        best, top = 0, -inf
        for r in range(regions):
            gap, peak = 0.0, 2 * projected[r] - y_square - square[r]
            for k in range(dim):
                m = projected[(k + 1) * regions + r] - shift[r, k]
                peak += m * m
                gap += (m - sphere[r, k]) ** 2
            gap = max(sqrt(gap) - sphere[r, dim], 0.0)
            ceiling[r] = 0.5 * (peak - gap * gap) - log_det[r] + sphere[r, dim + 1] + slack[n]
            if ceiling[r] > top:
                best, top = r, ceiling[r]
        threshold, highest = -inf, -inf
        kept, spent = 0, 0
        for turn in range(regions + 1):
            r = best if turn == 0 else turn - 1
            if (turn > 0 and r == best) or ceiling[r] < threshold:
                continue
            peak = find_mean(y[n], values[r], anchors[r], basis[r], rho, mean)
            s, e = facet_first[r], facet_first[r] + facet_count[r]
            a, b = first[r], first[r] + count[r]
            near = place_polytope(mean, normals[s:e], offsets[s:e], corners[a:b], room, points)
            flat = peak - log_det[r]
            if flat - 0.5 * near * near + slack[n] < threshold:
                continue
            limit = look(normals[s:e], e - s, b - a, threshold - flat - slack[n], space)
            if flat + limit + slack[n] < threshold:
                continue
            if kept == store:
                sums = lengthen_rows(sums, store, 2 * store)
                store *= 2
            for i in range(SHIFTS * columns):
                sums[kept, i] = 0.0
            table = sums[kept].reshape((SHIFTS, columns))
            number[kept] = 1 if flat + limit < highest - FAINT else BEGIN
            shifts = draw_shifts(seed, r, outer)
            unit = add_points(0, number[kept], shifts, e - s, space, -inf, table)
            mass[kept], error[kept] = mean_and_error(table, number[kept])
            error[kept], unit = error_of(mass[kept], error[kept], unit, limit, number[kept])
            pair[kept], level[kept], bound[kept], scale[kept] = r, flat, limit, unit
            spent += SHIFTS * number[kept]
            if mass[kept] > 0.0:
                estimate = flat + unit + log(mass[kept])
                highest = max(highest, estimate)
                threshold = max(threshold, estimate - keep)
            kept += 1
        # refine what is least certain
        while True:
            highest = -inf
            for i in range(kept):
                highest = max(highest, level[i] + scale[i])
            total, variance, worst, largest = 0.0, 0.0, -1, 0.0
            for i in range(kept):
                relative = exp(level[i] + scale[i] - highest)
                total += relative * mass[i]
                variance += (relative * error[i]) ** 2
                if relative * error[i] > largest:
                    worst, largest = i, relative * error[i]
            if worst < 0 or sqrt(variance) <= target * total:
                break
            if spent + SHIFTS * number[worst] > most_points:
                break
            i, r = worst, pair[worst]
            find_mean(y[n], values[r], anchors[r], basis[r], rho, mean)
            s, e = facet_first[r], facet_first[r] + facet_count[r]
            a, b = first[r], first[r] + count[r]
            place_polytope(mean, normals[s:e], offsets[s:e], corners[a:b], room, points)
            look(normals[s:e], e - s, b - a, -inf, space)
            shifts = draw_shifts(seed, r, outer)
            table = sums[i].reshape((SHIFTS, columns))
            last, unit = -inf, -inf
            if mass[i] > 0.0:
                last, unit = scale[i] + log(error[i]), scale[i]
            unit = add_points(number[i], 2 * number[i], shifts, e - s, space, unit, table)
            spent += SHIFTS * number[i]
            number[i] *= 2
            mass[i], error[i] = mean_and_error(table, number[i])
            error[i], scale[i] = error_of(mass[i], error[i], unit, bound[i], number[i])
            # no lattice gains more than this by doubling: a smaller error is luck
            error[i] = max(error[i], exp(last - scale[i]) / LARGEST_GAIN)
        while used + kept > capacity:
            capacity = 2 * capacity + regions
            region = lengthen(region, used, capacity)
            rows = lengthen_rows(rows, used, capacity)
        mean_energy = 0.0
        for i in range(kept):
            r = pair[i]
            row = rows[used + i]
            region[used + i] = r
            row[0] = exp(level[i] + scale[i] - highest) * mass[i] / total if mass[i] > 0 else 0.0
            if not mass[i] > 0.0:
                for k in range(1, columns):
                    row[k] = 0.0
                continue
            find_mean(y[n], values[r], anchors[r], basis[r], rho, mean)
            s, e = facet_first[r], facet_first[r] + facet_count[r]
            a, b = first[r], first[r] + count[r]
            place_polytope(mean, normals[s:e], offsets[s:e], corners[a:b], room, points)
            look(normals[s:e], e - s, b - a, -inf, space)
            turn_back(sums[i].reshape((SHIFTS, columns)), frame, offset, covariance)
            finish(row, inverse[r], mean, offset, covariance)
            joint[i] = peak_at(rho, basis[r], mean)
            for k in range(dim):
                joint[i] -= 0.5 * covariance[k, k]
            mean_energy += row[0] * joint[i]
        log_evidence[n] = highest + log(total) if total > 0.0 else -inf
        energy[n] = mean_energy
        deviation[n] = sqrt(variance) / total if total > 0.0 else inf
        counts[n] = kept
        used += kept
    region, rows = lengthen(region, used, used), lengthen_rows(rows, used, used)
    return log_evidence, energy, counts, region, rows, deviation
