r"""Affine maps of a piecewise-affine generator, by forward recursion with frozen codes.

On a region with code q (one entry for each hidden unit: 1 or the slope), anchored at a point c:

.. math:: h_l(u) = q_l \odot \big( U_l + J_l (u - c) \big), \qquad
          U_{l+1} = W_{l+1} h_l(c) + v_{l+1}, \quad J_{l+1} = W_{l+1} (q_l \odot J_l).

Anchoring at a point of the region keeps the digits that an intercept at 0 would lose.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyrolvm.exact.folding import Array, FoldedGenerator

Codes = NDArray[np.bool_]


def apply_slopes(value: Array, jacobian: Array, active: Codes, slope: float) -> None:
    """Multiply pre-activations ``(R, H)`` and Jacobians ``(R, S, H)`` by their slopes, in place."""
    if slope != 1.0:
        gains = np.where(active, 1.0, slope)
        value *= gains
        jacobian *= gains[:, None, :]


def start(points: Array) -> tuple[Array, Array]:
    """Value ``(R, S)`` and transposed Jacobian ``(R, S, S)`` of the identity at given points."""
    size, dim = points.shape
    return points.copy(), np.broadcast_to(np.eye(dim), (size, dim, dim)).copy()


def step(value: Array, jacobian: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """Send values ``(R, H)`` and transposed Jacobians ``(R, S, H)`` through one affine layer."""
    size, dim, width = jacobian.shape
    pushed = jacobian.reshape(size * dim, width) @ weight.T
    return value @ weight.T + bias, pushed.reshape(size, dim, weight.shape[0])


def hidden_maps(
    folded: FoldedGenerator, points: Array, codes: Codes | None = None
) -> tuple[Array, Array, Codes]:
    """Affine maps of the last hidden layer at given points.

    Args:
        folded: The generator.
        points: Whitened points, ``(R, S)``.
        codes: Activation codes ``(R, number of hidden units)``; read off at the points if None.

    Returns:
        Values ``(R, H)``, transposed Jacobians ``(R, S, H)`` and codes.
    """
    value, jacobian = start(points)
    found: list[Codes] = []
    first = 0
    for weight, bias, slope in zip(folded.weights, folded.biases, folded.slopes, strict=True):
        value, jacobian = step(value, jacobian, weight, bias)
        active = value > 0 if codes is None else codes[:, first : first + weight.shape[0]]
        first += weight.shape[0]
        apply_slopes(value, jacobian, active, slope)
        found.append(active)
    empty = np.zeros((len(points), 0), dtype=np.bool_)
    return value, jacobian, np.concatenate(found, axis=1) if found else empty


def output_maps(
    folded: FoldedGenerator, points: Array, codes: Codes | None = None
) -> tuple[Array, Array]:
    """Affine maps of the reduced generator f at given points.

    Args:
        folded: The generator.
        points: Whitened points, ``(R, S)``.
        codes: Activation codes, or None to read them off at the points.

    Returns:
        f at the points ``(R, D')`` and transposed Jacobians ``(R, S, D')``.
    """
    value, jacobian, _ = hidden_maps(folded, points, codes)
    return step(value, jacobian, folded.last, np.zeros(folded.last.shape[0]))
