"""Compiled copies of polytopes: without gaps, and with the vertices of each facet listed."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: PLR0912 - compiled loops are one body

from __future__ import annotations

from math import atan2, sqrt

import numpy as np
from numba import njit

from pyrolvm.exact.polytopes.incidence_kernel import BITS, GONE


@njit(cache=True, nogil=True)
def compact(vertices, masks, first, count, planes, sources, facet_first, facet_count):
    """Copy polytopes so that each begins where the last one ends.

    Args:
        vertices: See :func:`~pyrolvm.exact.polytopes.splitting_kernel.split_layer`, likewise all
            that follow.
        masks: ``(V, words)``.
        first: ``(P,)``.
        count: ``(P,)``.
        planes: ``(F, S + 1)``.
        sources: ``(F,)``.
        facet_first: ``(P,)``.
        facet_count: ``(P,)``.

    Returns:
        The same eight arrays without gaps.
    """
    cells, dim, words = first.shape[0], vertices.shape[1], masks.shape[1]
    new_first, new_facet_first = np.empty(cells, np.int64), np.empty(cells, np.int64)
    used, held = 0, 0
    for i in range(cells):
        new_first[i], new_facet_first[i] = used, held
        used, held = used + count[i], held + facet_count[i]
    new_vertices, new_masks = np.empty((used, dim)), np.empty((used, words), np.int64)
    new_planes, new_sources = np.empty((held, dim + 1)), np.empty(held, np.int64)
    for i in range(cells):
        for j in range(count[i]):
            to, source = new_first[i] + j, first[i] + j
            for d in range(dim):
                new_vertices[to, d] = vertices[source, d]
            for w in range(words):
                new_masks[to, w] = masks[source, w]
        for j in range(facet_count[i]):
            to, source = new_facet_first[i] + j, facet_first[i] + j
            new_sources[to] = sources[source]
            for d in range(dim + 1):
                new_planes[to, d] = planes[source, d]
    return (
        new_vertices, new_masks, new_first, count.copy(), new_planes, new_sources,
        new_facet_first, facet_count.copy(),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def merge_copies(vertices, masks, first, count):
    """Merge vertices of a polytope that are copies of one another; they share their facets then.

    Args:
        vertices: See :func:`compact`, likewise all that follow; overwritten.
        masks: ``(V, words)``; overwritten.
        first: ``(P,)``.
        count: ``(P,)``; overwritten.

    Returns:
        Whether anything was merged in each polytope, ``(P,)``.
    """
    cells, dim, words = first.shape[0], vertices.shape[1], masks.shape[1]
    merged = np.zeros(cells, np.bool_)
    for i in range(cells):
        s, kept = first[i], 0
        for j in range(s, s + count[i]):
            twin = -1
            for k in range(s, s + kept):
                d = 0
                while d < dim and vertices[k, d] == vertices[j, d]:
                    d += 1
                if d == dim:
                    twin = k
                    break
            if twin < 0:
                twin = s + kept
                kept += 1
                for d in range(dim):
                    vertices[twin, d] = vertices[j, d]
                for w in range(words):
                    masks[twin, w] = masks[j, w]
            else:
                for w in range(words):
                    masks[twin, w] |= masks[j, w]
        merged[i] = kept < count[i]
        count[i] = kept
    return merged


@njit(cache=True, nogil=True)
def drop_flat_facets(masks, s, n, sources, f, m):
    """Mark as gone each facet whose corners all lie in another facet of the polytope."""
    for t in range(m):
        if sources[f + t] == GONE:
            continue
        others = np.zeros(masks.shape[1], np.int64)
        for w in range(masks.shape[1]):
            others[w] = -1
        for j in range(s, s + n):
            if masks[j, t // BITS] >> (t % BITS) & 1:
                for w in range(masks.shape[1]):
                    others[w] &= masks[j, w]
        for k in range(m):
            if k != t and sources[f + k] != GONE and others[k // BITS] >> (k % BITS) & 1:
                sources[f + t] = GONE
                break


@njit(cache=True, nogil=True)
def turn(vertices, begin, corners, start, size, plane):
    """Sort the corners of a facet in space counter-clockwise, seen from outside."""
    small = 0
    for d in range(1, 3):
        if abs(plane[d]) < abs(plane[small]):
            small = d
    # an axis in the plane, and the one that completes normal, axis, other to a right-handed frame
    axis, other = np.zeros(3), np.empty(3)
    for d in range(3):
        axis[d] = -plane[d] * plane[small]
    axis[small] += 1.0
    norm = sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
    for d in range(3):
        axis[d] /= norm
    for d in range(3):
        e, f = (d + 1) % 3, (d + 2) % 3
        other[d] = plane[e] * axis[f] - plane[f] * axis[e]
    centre = np.zeros(3)
    for i in range(size):
        for d in range(3):
            centre[d] += vertices[begin + corners[start + i], d] / size
    angles = np.empty(size)
    for i in range(size):
        corner = corners[start + i]
        x, y = 0.0, 0.0
        for d in range(3):
            x += axis[d] * (vertices[begin + corner, d] - centre[d])
            y += other[d] * (vertices[begin + corner, d] - centre[d])
        angle = atan2(y, x)
        j = i
        while j > 0 and angles[j - 1] > angle:
            angles[j], corners[start + j] = angles[j - 1], corners[start + j - 1]
            j -= 1
        angles[j], corners[start + j] = angle, corner


@njit(cache=True, nogil=True)
def list_facets(vertices, masks, first, count, planes, sources, facet_first, facet_count):
    """Merge copies of vertices; list facets and their corners.

    A polytope that has fewer than S + 1 vertices or facets then is a plane to double precision; it
    is left without vertices and facets.

    Args:
        vertices: See :func:`compact`, likewise all that follow; there may be gaps on return.
        masks: ``(V, words)``.
        first: ``(P,)``.
        count: ``(P,)``.
        planes: ``(F, S + 1)``.
        sources: ``(F,)``.
        facet_first: ``(P,)``.
        facet_count: ``(P,)``.

    Returns:
        First facet and number of facets of each polytope; plane, source, first corner and number
        of corners of each facet; corners as positions among the polytope's vertices.
    """
    cells, dim = first.shape[0], vertices.shape[1]
    merged = merge_copies(vertices, masks, first, count)
    slots, incidences = planes.shape[0], 0
    for i in range(masks.shape[0]):
        for w in range(masks.shape[1]):
            word = masks[i, w]
            while word:
                word &= word - 1
                incidences += 1
    new_first, new_count = np.empty(cells, np.int64), np.empty(cells, np.int64)
    new_planes, new_sources = np.empty((slots, dim + 1)), np.empty(slots, np.int64)
    corner_first, corner_count = np.empty(slots, np.int64), np.empty(slots, np.int64)
    corners = np.empty(incidences, np.int64)
    facets, used = 0, 0
    for i in range(cells):
        new_first[i], before = facets, used
        if merged[i]:
            drop_flat_facets(masks, first[i], count[i], sources, facet_first[i], facet_count[i])
        for t in range(facet_count[i]):
            f = facet_first[i] + t
            if sources[f] == GONE:
                continue
            size = 0
            for j in range(count[i]):
                if masks[first[i] + j, t // BITS] >> (t % BITS) & 1:
                    corners[used + size] = j
                    size += 1
            if size < dim:
                continue
            for d in range(dim + 1):
                new_planes[facets, d] = planes[f, d]
            new_sources[facets] = sources[f]
            corner_first[facets], corner_count[facets] = used, size
            if dim == 3:
                turn(vertices, first[i], corners, used, size, planes[f])
            used, facets = used + size, facets + 1
        if min(count[i], facets - new_first[i]) <= dim:
            facets, used, count[i] = new_first[i], before, 0
        new_count[i] = facets - new_first[i]
    return (
        new_first, new_count, new_planes[:facets].copy(), new_sources[:facets].copy(),
        corner_first[:facets].copy(), corner_count[:facets].copy(), corners[:used].copy(),
    )  # fmt: skip
