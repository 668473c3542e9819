r"""Every layer's affine map on every region, with frozen codes, from the latent vector and back.

On a region, in :math:`\varphi = (1, u - c)`, the input of layer l is :math:`C_l^\top \varphi` and
the reduced output is :math:`V_l\, a_l + \text{const}` in the pre-activation a_l of layer l, where

.. math:: C_{l+1} = (C_l W_l^\top + e_1 v_l^\top) \operatorname{diag}(q_l), \qquad
          V_l = V_{l+1} W_{l+1} \operatorname{diag}(q_l) .

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyrolvm.exact.folding import Array
from pyrolvm.exact.learning.expectation_step import ExpectationStep
from pyrolvm.exact.learning.region_maps import hidden_maps, latent_maps


@dataclass(frozen=True)
class FrozenLayers:
    """Regions of all components of the prior, one after the other.

    Attributes:
        inputs: C of each hidden layer, and last the last hidden layer itself, ``(R, S + 1, H_l)``.
        outputs: V of each hidden layer, ``(R, D', H_l)``.
        outer: Moments M, ``(R, S + 1, S + 1)``.
        pull: T less what the generator makes of M, ``(R, S + 1, D')``: the derivative of the log
            likelihood in each region's reduced output.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    outer: Array
    pull: Array

    @classmethod
    def of(cls, step: ExpectationStep) -> FrozenLayers:
        """Push the regions of an E-step through the hidden layers and back."""
        weights = [weight.numpy() for weight in step.stack.weights[:-1]]
        last = step.reduced.last.numpy()
        latent = np.concatenate([latent_maps(part.folded, part.anchors) for part in step.sums])
        codes = np.concatenate([part.codes for part in step.sums])
        inputs, gains = hidden_maps(step.stack, latent, codes)
        outputs: list[Array] = []
        above = np.broadcast_to(last, (len(codes), *last.shape))
        for layer in reversed(range(len(weights))):
            outputs.insert(0, above * gains[layer][:, None])
            above = outputs[0] @ weights[layer]
        outer = np.concatenate([part.outer for part in step.sums])
        targets = np.concatenate([part.targets for part in step.sums])
        return cls(inputs, tuple(outputs), outer, targets - outer @ (inputs[-1] @ last.T))
