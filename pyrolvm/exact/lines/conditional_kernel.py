r"""Compiled posterior along a line: weights of its pieces and exact draws.

On a piece that begins at distance t0, with misfit e = y - f and output rate q there, and
component k of the prior:

.. math:: p_k(s) \propto e^{-\frac12 |e - s q|^2 - \frac12 |a_k + (t_0 + s) b_k|^2}, \qquad
          \tau = |q|^2 + |b_k|^2, \quad
          \hat s = \tau^{-1} \big(e \cdot q - b_k \cdot (a_k + t_0 b_k)\big),

a normal variable with mean s-hat and precision tau, cut to the piece. Densities are taken at the
piece's point nearest to s-hat, so that weights keep their relative accuracy however far out it is.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import exp, inf, log, nan, pi, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pyrolvm.exact.buffers import lengthen_rows
from pyrolvm.exact.folding import Array
from pyrolvm.exact.lines.problem import BEGIN, BOUND, LENGTH, MEAN, PEAK, PRECISION, SIGN
from pyrolvm.exact.lines.sweep_kernel import (
    aim,
    copy_to,
    cross,
    forward,
    misfit_at,
    next_kink,
    products,
    walk,
)
from pyrolvm.exact.random_kernel import truncated_normal, uniform
from pyrolvm.exact.special import ROOT_HALF_PI, interval_moments

LOG_ROOT_2PI = 0.5 * log(2 * pi)
# Pieces this many nats below the best one are left out of a draw: rounding, summed over all.
KEEP = 45.0


class Room(NamedTuple):
    """Work space of a walk.

    Attributes:
        start: Pre-activations where the line begins, one for each hidden unit.
        values: Those at the present place.
        rates: Their rates of change.
        hidden: Values, then rates, after the activations.
        positive: Signs.
        change: Change of rates that a kink passes on, ``(2, widest)``.
        output: The generator's output at the start, ``(D',)``.
        misfit: y - f at the present place, ``(D',)``.
        rate: Rate of change of f, ``(D',)``.
        prior: |a_k|^2, a_k.b_k and |b_k|^2 of each component at the start, ``(K, 3)``.
    """

    start: Array
    values: Array
    rates: Array
    hidden: Array
    positive: NDArray[np.bool_]
    change: Array
    output: Array
    misfit: Array
    rate: Array
    prior: Array


@njit(cache=True, nogil=True)
def make_room(net):
    """Allocate the work space, once for many lines."""
    units, outputs = net.layer_of.shape[0], net.widths[-1]
    widest = 1
    for width in net.widths:
        widest = max(widest, width)
    return Room(
        np.empty(units), np.empty(units), np.empty(units), np.empty(units),
        np.empty(units, np.bool_), np.empty((2, widest)),
        np.empty(outputs), np.empty(outputs), np.empty(outputs),
        np.empty((net.log_shares.shape[0], 3)),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def set_prior(point, direction, net, prior):
    """Quadratics of the prior's components along the line."""
    dim = point.shape[0]
    for k in range(prior.shape[0]):
        aa, ab, bb = 0.0, 0.0, 0.0
        for i in range(dim):
            a, b = net.shifts[k, i], 0.0
            for j in range(dim):
                a += net.maps[k, i, j] * point[j]
                b += net.maps[k, i, j] * direction[j]
            aa += a * a
            ab += a * b
            bb += b * b
        prior[k, 0], prior[k, 1], prior[k, 2] = aa, ab, bb


@njit(cache=True, nogil=True)
def rest_bound(begin, sign, net, prior):
    """Upper bound of the log weight of all that lies further out than ``begin``."""
    bound = -inf
    for k in range(prior.shape[0]):
        aa, ab, bb = prior[k, 0], sign * prior[k, 1], prior[k, 2]
        near = max(begin, -ab / bb)
        square = aa + (2.0 * ab + near * bb) * near
        bound = max(bound, net.log_shares[k] - 0.5 * square - 0.5 * log(bb))
    return bound + LOG_ROOT_2PI + log(prior.shape[0])


@njit(cache=True, nogil=True)
def log_span(low, high):
    """Log of an upper bound of a normal curve's integral, the curve being 1 where it is largest.

    It is at most 2.5 times the integral, and costs no quadrature.
    """
    span = high - low
    if low > 0.0:
        span = min(span, 1.0 / low, ROOT_HALF_PI)
    elif high < 0.0:
        span = min(span, -1.0 / high, ROOT_HALF_PI)
    else:
        span = min(span, 2.0 * ROOT_HALF_PI)
    return log(max(span, 1e-300))


@njit(cache=True, nogil=True)
def bound_piece(begin, length, sign, net, room, keep, best, pieces, used):
    """Write a piece with each component of the prior, unless it cannot matter."""
    mm, mr, rr = products(room.misfit, room.rate)
    for k in range(room.prior.shape[0]):
        aa, ab, bb = room.prior[k, 0], sign * room.prior[k, 1], room.prior[k, 2]
        precision = rr + bb
        mean = (mr - ab - begin * bb) / precision
        near = min(max(mean, 0.0), length)
        place = begin + near
        peak = net.log_shares[k] - 0.5 * (aa + (2.0 * ab + place * bb) * place)
        root = sqrt(precision)
        span = log_span(-mean * root, (length - mean) * root) - log(root)
        rough = peak - 0.5 * (mm - 2.0 * near * mr + near * near * rr)
        if rough + span + 1e-9 * (1.0 + mm) < best - keep:
            continue
        peak -= 0.5 * misfit_at(room.misfit, room.rate, near)
        piece = pieces[used]
        piece[BOUND], piece[PEAK], piece[BEGIN], piece[LENGTH] = peak + span, peak, begin, length
        piece[MEAN], piece[PRECISION], piece[SIGN] = mean, precision, sign
        best = max(best, peak + span)
        used += 1
    return best, used


@njit(cache=True, nogil=True)
def standardised(piece):
    """Ends of a piece in standard deviations from its mean, and the inverse of one of these."""
    root = sqrt(piece[PRECISION])
    return -piece[MEAN] * root, (piece[LENGTH] - piece[MEAN]) * root, root


@njit(cache=True, nogil=True)
def log_weight(piece):
    """Log of the integral over a piece."""
    low, high, root = standardised(piece)
    _, mass, _, _ = interval_moments(low, high)
    if not mass > 0.0:
        return -inf
    return piece[PEAK] + LOG_ROOT_2PI - log(root) + log(mass)


@njit(cache=True, nogil=True)
def sweep_line(point, direction, y, heat, net, room, keep, pieces):
    """List all pieces of a line that matter, outward from its point on both sides.

    Args:
        point: Where the line begins, ``(S,)``.
        direction: Its direction, ``(S,)``, of any length but 0.
        y: Reduced data, ``(D',)``.
        heat: Factor of the misfit: root of the inverse temperature, 1 for the posterior.
        net: See :class:`~pyrolvm.exact.lines.problem.Net`.
        room: See :class:`Room`.
        keep: Pieces this many nats below the best one are left out; infinity keeps all.
        pieces: Rows to write to; replaced by a longer array where they are too few.

    Returns:
        The pieces (bound of the log weight, log density where it is largest, distance of the
        begin, length, mean from the begin, precision, side), how many they are, and how many
        pieces were met.
    """
    forward(point, net, room.start, room.hidden, room.output)
    set_prior(point, direction, net, room.prior)
    best, used, met = -inf, 0, 0
    components = room.prior.shape[0]
    for side in range(2):
        sign = 1.0 - 2.0 * side
        copy_to(room.start, room.values)
        aim(direction, sign, net, room.values, room.positive, room.rates, room.hidden, room.rate)
        for d in range(y.shape[0]):
            room.misfit[d] = heat * (y[d] - room.output[d])
            room.rate[d] *= heat
        begin = 0.0
        while True:
            length, unit = next_kink(net, room.values, room.positive, room.rates)
            met += 1
            if length > 0.0:
                if used + components > pieces.shape[0]:
                    pieces = lengthen_rows(pieces, used, 2 * pieces.shape[0] + components)
                best, used = bound_piece(begin, length, sign, net, room, keep, best, pieces, used)
            if length == inf:
                break
            begin += length
            if rest_bound(begin, sign, net, room.prior) < best - keep:
                break
            walk(length, room.values, room.rates, room.misfit, room.rate)
            cross(unit, heat, net, room.values, room.positive, room.rates, room.rate, room.change)
    return pieces, used, met


@njit(cache=True, nogil=True)
def draw_on_line(pieces, used, state):
    """Choose a piece by its weight and draw on it; the signed distance, NaN without any piece.

    Pieces are proposed by the bounds of their weights: only the weights of these are computed.
    """
    best = -inf
    for i in range(used):
        best = max(best, pieces[i, BOUND])
    total = 0.0
    for i in range(used):
        total += exp(pieces[i, BOUND] - best)
    if not total > 0.0:
        return nan
    while True:
        left = uniform(state) * total
        chosen = used - 1
        for i in range(used):
            left -= exp(pieces[i, BOUND] - best)
            if left < 0.0:
                chosen = i
                break
        piece = pieces[chosen]
        low, high, root = standardised(piece)
        _, mass, _, _ = interval_moments(low, high)
        # weight over bound without the density at the peak: far out, rounding of its logarithm is
        # many nats, and nothing would ever be accepted
        if not mass > 0.0 or log(uniform(state)) < LOG_ROOT_2PI + log(mass) - log_span(low, high):
            break
    s = piece[MEAN] + truncated_normal(low, high, state) / root
    return piece[SIGN] * (piece[BEGIN] + min(max(s, 0.0), piece[LENGTH]))
