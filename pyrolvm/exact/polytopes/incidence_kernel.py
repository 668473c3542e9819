"""Compiled operations on simple polytopes, given by vertices and the facets that meet in each.

Exactly S facets meet in each vertex, as bits, numbered within the polytope, ``BITS`` to a word;
two vertices are the ends of an edge if and only if they share S - 1 of them. A plane that passes
through vertices is taken to pass just below them (a symbolic perturbation), so that the parts are
simple again: where it should make no new vertex, it makes copies of the old one. That keeps the
incidence consistent whatever rounding does; copies are merged at the end (``facet_kernel``).

References:
    Edelsbrunner & Muecke (1990), Simulation of Simplicity.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from pyrolvm.exact.buffers import lengthen_rows

# Facets in a word; signed words, so that no operation leaves the integers.
BITS = 62
# Source of a slot whose facet was cut off; a later facet may take it.
GONE = -(2**40)


@njit(cache=True, nogil=True)
def count_bits(word):
    """Number of bits that are set in a non-negative word."""
    word = word - ((word >> 1) & 0x5555555555555555)
    word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F
    word = word + (word >> 8)
    word = word + (word >> 16)
    return (word + (word >> 32)) & 127


@njit(cache=True, nogil=True)
def widen(masks, used):
    """Copy the first ``used`` rows of bits and add one word to each."""
    wider = np.zeros((masks.shape[0], masks.shape[1] + 1), np.int64)
    for i in range(used):
        for w in range(masks.shape[1]):
            wider[i, w] = masks[i, w]
    return wider


@njit(cache=True, nogil=True)
def cross_edges(vertices, masks, s, n, side, tolerance, order, points, common):
    """Find where a plane crosses the edges of a polytope.

    Args:
        vertices: Vertices of all polytopes, ``(V, S)``.
        masks: Facets of each vertex, ``(V, words)``.
        s: First vertex of this polytope.
        n: Number of its vertices.
        side: Value of the plane's function at them.
        tolerance: Vertices with smaller values are on the plane, and count as above it.
        order: Work space for n indices.
        points: Buffer for new vertices, ``(room, S)``.
        common: Buffer for the facets of their edges, ``(room, words)``.

    Returns:
        Number of new vertices, and the two buffers, which are longer ones if need be.
    """
    dim, words = vertices.shape[1], masks.shape[1]
    above, below = 0, n
    for j in range(n):
        if side[j] >= -tolerance:
            order[above] = j
            above += 1
        else:
            below -= 1
            order[below] = j
    found = 0
    for a in range(above):
        p = s + order[a]
        f = side[order[a]]
        for b in range(above, n):
            q = s + order[b]
            shared = 0
            for w in range(words):
                shared += count_bits(masks[p, w] & masks[q, w])
            if shared < dim - 1:
                continue
            if found == points.shape[0]:
                points = lengthen_rows(points, found, 2 * found)
                common = lengthen_rows(common, found, 2 * found)
            t = f / (f - side[order[b]]) if f > tolerance else 0.0
            for d in range(dim):
                points[found, d] = vertices[p, d] + t * (vertices[q, d] - vertices[p, d])
            for w in range(words):
                common[found, w] = masks[p, w] & masks[q, w]
            found += 1
    return found, points, common


@njit(cache=True, nogil=True)
def write_child(
    vertices, masks, used, planes, sources, held, s, n, f, m,
    side, sign, tolerance, points, common, found, plane, source,
):  # fmt: skip
    """Write the part of a polytope on one side of a plane behind all others.

    Args:
        vertices: Vertices of all polytopes; written from ``used`` on.
        masks: Their facets.
        used: Number of rows in use.
        planes: Outward normals and offsets of all facets; written from ``held`` on.
        sources: What made each facet.
        held: Number of rows in use.
        s: The parent's first vertex.
        n: Number of its vertices.
        f: Its first facet.
        m: Number of its facet slots.
        side: Value of the plane's function at its vertices.
        sign: 1 or -1, the side to write.
        tolerance: As in :func:`cross_edges`.
        points: New vertices.
        common: Facets of their edges.
        found: Number of new vertices.
        plane: Normal and offset of the plane, outward for side -1.
        source: Hidden unit that makes it.

    Returns:
        Number of vertices and of facet slots.
    """
    dim, words = vertices.shape[1], masks.shape[1]
    alive = np.zeros(words, np.int64)
    size = used
    for j in range(n):
        if (side[j] >= -tolerance) == (sign > 0):
            for d in range(dim):
                vertices[size, d] = vertices[s + j, d]
            for w in range(words):
                masks[size, w] = masks[s + j, w]
                alive[w] |= masks[s + j, w]
            size += 1
    slot, last = m, 0
    for t in range(m):
        if alive[t // BITS] >> (t % BITS) & 1:
            sources[held + t] = sources[f + t]
            for d in range(dim + 1):
                planes[held + t, d] = planes[f + t, d]
            last = t + 1
        else:
            sources[held + t] = GONE
            slot = min(slot, t)
    sources[held + slot] = source
    for d in range(dim + 1):
        planes[held + slot, d] = -sign * plane[d]
    for i in range(found):
        for d in range(dim):
            vertices[size, d] = points[i, d]
        for w in range(words):
            masks[size, w] = common[i, w]
        masks[size, slot // BITS] |= 1 << (slot % BITS)
        size += 1
    return size - used, max(last, slot + 1)
