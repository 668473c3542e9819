"""Compiled E-step for three latent coordinates: exact sums over polyhedra."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912, PLR0915 - compiled loops are one body

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.buffers import lengthen, lengthen_rows
from pyrolvm.exact.polytopes.polyhedron_flags import largest_sizes, make_tables, trace_flags
from pyrolvm.exact.polytopes.polyhedron_moments import closed_moments
from pyrolvm.exact.polytopes.polyhedron_regions import (
    bounding_spheres,
    centre,
    finish,
    place,
    remainder,
    residual,
    spend,
)
from pyrolvm.exact.polytopes.polyhedron_slices import polyhedron_slices
from pyrolvm.exact.propagation_kernel import project

# Closed forms err by 1e-16 of the terms in them: slice above this multiple of p(x).
DAMAGE = 1e4
# Nats below the best value from which fewer digits do.
MINOR, SLIGHT = 7.0, 22.0
# Masses below this multiple of the terms are rounding in the closed form.
DUST = 1e-15
LOG_ROOT_2PI_CUBED = 1.5 * log(2 * np.pi)


@njit(cache=True, nogil=True)
def polyhedron_pairs(
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
):
    """Integrate the joint density over every polyhedron that can matter, datum by datum.

    A polyhedron is skipped if an upper bound (bounding sphere, then exact distance) lies ``keep``
    nats below the exact value of the best one so far.

    Args:
        y: Reduced data, ``(N, D')``.
        slack: Rounding allowance of the bounds, in nats, ``(N,)``.
        keep: How many nats below the best polyhedron still count.
        projection: See :class:`~pyrolvm.exact.geometry.RegionGeometry`, likewise the next eight.
        values: ``(R, D')``.
        anchors: ``(R, 3)``.
        basis: ``(R, 3, D' + 3)``.
        inverse: ``(R, 3, 3)``.
        log_det: ``(R,)``.
        corners: ``(V, 3)``.
        shift: ``(R, 3)``.
        square: ``(R,)``.
        first: First vertex of each polyhedron, ``(R,)``.
        count: Number of its vertices, ``(R,)``.
        facet_first: First facet of each polyhedron, ``(R,)``.
        facet_count: Number of its facets, ``(R,)``.
        normals: Outward unit normals of the whitened facets, ``(F, 3)``.
        offsets: The polyhedron lies in n . w <= offset, ``(F,)``.
        corner_first: First corner of each facet, ``(F,)``.
        corner_count: Number of its corners, ``(F,)``.
        facet_corners: Corners of the facets as positions among the region's vertices,
            counter-clockwise seen from outside.

    Returns:
        Log evidence ``(N,)``, E log joint ``(N,)``, number of kept pairs of each datum ``(N,)``;
        for the pairs: region, and rows (probability, mean of u - c, covariance xx, xy, xz, yy,
        yz, zz).
    """
    size, width = y.shape
    regions = values.shape[0]
    sphere = bounding_spheres(
        corners, first, count, facet_first, facet_count, normals, offsets, corner_first,
        corner_count, facet_corners,
    )  # fmt: skip
    vertices, facets, edges = largest_sizes(count, facet_first, facet_count, corner_count)
    points, flags, ends, planes, pairs = make_tables(vertices, facets, edges)
    work = np.empty((facets, 3))
    bound = np.empty(regions)
    log_evidence, energy = np.empty(size), np.empty(size)
    counts = np.zeros(size, np.int64)
    capacity = 16 * size + regions
    region, joint = np.empty(capacity, np.int32), np.empty(capacity)
    moment = np.empty((capacity, 10))
    # level, distance^2 and rounding of each pair of one datum
    notes = np.empty((regions, 3))
    rho, sums = np.empty(width + 3), np.empty(10)
    mean, near, w = np.empty(3), np.empty(3), np.empty(3)
    projected = np.empty(projection.shape[1])
    used = 0
    for n in range(size):
        project(y[n], projection, projected)
        y_square = 0.0
        for d in range(width):
            y_square += y[n, d] * y[n, d]
        best, top = 0, -inf
        for r in range(regions):
            peak, off = 2 * projected[r] - y_square - square[r], 0.0
            for k in range(3):
                m = projected[(k + 1) * regions + r] - shift[r, k]
                peak += m * m
                off += (m - sphere[r, k]) ** 2
            gap = max(sqrt(off) - sphere[r, 3], 0.0)
            bound[r] = 0.5 * (peak - gap * gap) - log_det[r] + sphere[r, 4]
            if bound[r] > top:
                best, top = r, bound[r]
        threshold = -inf
        begin = used
        highest = -inf
        for turn in range(regions + 1):
            r = best if turn == 0 else turn - 1
            if (turn > 0 and r == best) or bound[r] + slack[n] < threshold:
                continue
            remainder(y[n], values[r], anchors[r], rho)
            place(rho, basis[r], corners, first[r], count[r], points, mean)
            number, near[0], near[1], near[2] = trace_flags(
                points, count[r], facet_first[r], facet_count[r], normals, corner_first,
                corner_count, facet_corners, flags, ends, planes, pairs,
            )  # fmt: skip
            distance = near[0] * near[0] + near[1] * near[1] + near[2] * near[2]
            for k in range(3):
                w[k] = mean[k] + near[k]
            exponent = residual(rho, basis[r], w)
            level = exponent - log_det[r]
            if level + sphere[r, 4] < threshold:
                continue
            # pairs that weigh next to nothing need fewer digits
            shortfall = threshold + keep - level
            effort = 2 if shortfall < MINOR else (1 if shortfall < SLIGHT else 0)
            while True:
                summed = closed_moments(
                    flags, ends, number, planes, facet_first[r], facet_count[r], normals,
                    distance, effort, work, sums,
                )  # fmt: skip
                if effort == 2 or sums[0] > (1e-4 if effort == 0 else 1e-9):
                    break
                effort = 2
            if used == capacity:
                capacity = 2 * capacity + regions
                region = lengthen(region, used, capacity)
                joint = lengthen(joint, used, capacity)
                moment = lengthen_rows(moment, used, capacity)
            region[used] = r
            notes[used - begin, 0] = level
            notes[used - begin, 1], notes[used - begin, 2] = distance, summed
            highest = max(highest, level)
            if sums[0] > DUST * (1 + distance) * summed:
                centre(sums, near)
                finish(moment[used], inverse[r], sums, w)
                joint[used] = exponent + spend(near, sums)
                moment[used, 0] = sums[0]
                threshold = max(threshold, level + log(sums[0]) - keep)
            else:
                for k in range(10):
                    moment[used, k] = 0.0
                joint[used] = 0.0
            used += 1
        total = 0.0
        for i in range(begin, used):
            total += moment[i, 0] * exp(notes[i - begin, 0] - highest)
        # where the closed form's error could show in p(x) or the moments, integrate by slices
        again = 0.0
        for i in range(begin, used):
            relative = exp(notes[i - begin, 0] - highest)
            error = 1.0 + notes[i - begin, 1]
            error *= relative * max(1.0, 0.01 * error) * notes[i - begin, 2]
            r = region[i]
            if error > DAMAGE * total or total <= 0.0:
                if notes[i - begin, 0] + sphere[r, 4] < threshold:
                    moment[i, 0] = 0.0
                    continue
                remainder(y[n], values[r], anchors[r], rho)
                place(rho, basis[r], corners, first[r], count[r], points, mean)
                number, near[0], near[1], near[2] = trace_flags(
                    points, count[r], facet_first[r], facet_count[r], normals, corner_first,
                    corner_count, facet_corners, flags, ends, planes, pairs,
                )  # fmt: skip
                for k in range(3):
                    w[k] = mean[k] + near[k]
                polyhedron_slices(points, count[r], ends, number, facet_count[r], near, sums)
                moment[i, 0] = sums[0]
                if sums[0] > 0.0:
                    threshold = max(threshold, notes[i - begin, 0] + log(sums[0]) - keep)
                    finish(moment[i], inverse[r], sums, w)
                    joint[i] = notes[i - begin, 0] + log_det[r] + spend(near, sums)
            moment[i, 0] *= relative
            again += moment[i, 0]
        mean_energy = 0.0
        for i in range(begin, used):
            if moment[i, 0] > 0.0:
                moment[i, 0] /= again
                mean_energy += moment[i, 0] * joint[i]
        log_evidence[n] = highest + log(again)
        energy[n] = mean_energy
        counts[n] = used - begin
    region, moment = lengthen(region, used, used), lengthen_rows(moment, used, used)
    return log_evidence, energy, counts, region, moment
