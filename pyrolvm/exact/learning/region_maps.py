r"""Affine maps of the latent vector and of every hidden layer on regions with frozen codes.

A map is an array ``(R, S + 1, H)``: value at the region's anchor c, and slopes in u - c.
"""

from __future__ import annotations

import numpy as np

from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.propagation import Codes
from pyrolvm.exact.stack import AffineStack


def latent_maps(folded: FoldedGenerator, anchors: Array) -> Array:
    """The latent vector z = m + L u itself, ``(R, S + 1, S)``."""
    tril = folded.prior_scale_tril
    slopes = np.broadcast_to(tril.T, (len(anchors), *tril.shape))
    return np.concatenate([folded.to_latent(anchors)[:, None], slopes], 1)


def hidden_maps(
    stack: AffineStack, latent: Array, codes: Codes
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """All layers' inputs, and the slopes of the activations.

    Args:
        stack: The generator.
        latent: Maps of z, ``(R, S + 1, S)``.
        codes: Whether each hidden unit is positive, ``(R, units)``.

    Returns:
        Maps of z and of each hidden layer after its activation, one more than there are hidden
        layers; and the activations' slopes, ``(R, H)`` for each hidden layer.
    """
    inputs, gains = [latent], []
    column = 0
    for weight, bias, slope in zip(stack.weights, stack.biases, stack.slopes, strict=False):
        inner = inputs[-1] @ weight.numpy().T
        inner[:, 0] += bias.numpy()
        active = codes[:, column : column + len(bias)]
        column += len(bias)
        gains.append(np.where(active, 1.0, slope))
        inputs.append(inner * gains[-1][:, None])
    return tuple(inputs), tuple(gains)
