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

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyrolvm.exact.folding import Array, FoldedGenerator

Codes = NDArray[np.bool_]


class Layers(NamedTuple):
    """Affine layers as flat arrays, for the compiled recursion.

    Attributes:
        weights: Transposed weight matrices, one after the other.
        biases: Biases, one after the other.
        widths: Number of inputs and of each layer's outputs.
        slopes: Slope after each layer; 1 after the last.
    """

    weights: Array
    biases: Array
    widths: NDArray[np.int64]
    slopes: Array


def layers_of(folded: FoldedGenerator, depth: int | None = None) -> Layers:
    """Flatten a generator's layers.

    Args:
        folded: The generator.
        depth: Take only so many hidden layers, up to the last one's pre-activation; all layers and
            the output if None.

    Returns:
        The layers.
    """
    weights, biases, slopes = folded.weights[:depth], folded.biases[:depth], folded.slopes[:depth]
    if depth is None:
        weights = (*weights, folded.last)
        biases = (*biases, np.zeros(folded.last.shape[0]))
        slopes = (*slopes, 1.0)
    return Layers(
        weights=np.concatenate([weight.T.ravel() for weight in weights]),
        biases=np.concatenate(biases),
        widths=np.array([folded.latent_dim, *(len(bias) for bias in biases)]),
        slopes=np.array(slopes),
    )


def _propagate(layers: Layers, points: Array, codes: Codes | None) -> tuple[Array, Array, Codes]:
    from pyrolvm.exact.propagation_kernel import push_all

    units = int(layers.widths[1:-1].sum())
    given = codes is not None
    used = np.empty((len(points), units), np.bool_) if codes is None else codes
    found = push_all(points, used, given, *layers)
    return found[:, 0], found[:, 1:], used


def pre_activations(
    folded: FoldedGenerator, layer: int, points: Array, codes: Codes | None = None
) -> tuple[Array, Array]:
    """Affine maps of one hidden layer before its activation.

    Args:
        folded: The generator.
        layer: Number of the hidden layer, from 0.
        points: Whitened points, ``(R, S)``.
        codes: Codes of the layers below ``(R, units)``; read off at the points if None.

    Returns:
        Pre-activations ``(R, H)`` and transposed Jacobians ``(R, S, H)``.
    """
    value, jacobian, _ = _propagate(layers_of(folded, layer + 1), points, codes)
    return value, jacobian


def output_maps(
    folded: FoldedGenerator, points: Array, codes: Codes | None = None
) -> tuple[Array, Array, Codes]:
    """Affine maps of the reduced generator f at given points.

    Args:
        folded: The generator.
        points: Whitened points, ``(R, S)``.
        codes: Activation codes, or None to read them off at the points.

    Returns:
        f at the points ``(R, D')``, transposed Jacobians ``(R, S, D')`` and codes ``(R, units)``.
    """
    return _propagate(layers_of(folded), points, codes)


def hidden_maps(folded: FoldedGenerator, points: Array, codes: Codes) -> tuple[Array, Array]:
    """Affine maps of the last hidden layer, after its activation, on regions with given codes.

    Args:
        folded: The generator; it has a hidden layer.
        points: Whitened points, ``(R, S)``.
        codes: Activation codes, ``(R, units)``.

    Returns:
        Values ``(R, H)`` and transposed Jacobians ``(R, S, H)``.
    """
    value, jacobian = pre_activations(folded, len(folded.weights) - 1, points, codes)
    gains = np.where(codes[:, -value.shape[1] :], 1.0, folded.slopes[-1])
    return value * gains, jacobian * gains[:, None]
