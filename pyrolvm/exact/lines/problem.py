r"""A generator made ready for the posterior along lines, in any number of latent dimensions.

Coordinates u with z = m + L u make the prior standard normal; of a mixture, they standardise its
overall mean and covariance, and component k is, up to a constant,

.. math:: \log \pi_k - \log |L_k| - \tfrac12 |A_k u + c_k|^2, \qquad
          A_k = L_k^{-1} L, \quad c_k = L_k^{-1} (m - m_k).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pyrolvm.exact.folding import Array, FoldedGenerator, fold
from pyrolvm.exact.propagation import layers_of
from pyrolvm.exact.stack import AffineStack

# Columns of a piece: bound of its log weight, log density where it is largest, distance where it
# begins, length, mean (from its begin), precision and side of the line's point.
BOUND, PEAK, BEGIN, LENGTH, MEAN, PRECISION, SIGN = range(7)


class Net(NamedTuple):
    """Layers and prior as flat arrays, for the compiled sweep.

    Attributes:
        weights: Transposed weight matrices of all layers, one after the other.
        biases: Biases of all layers.
        widths: S, the width of each hidden layer and D'.
        slopes: Slope after each layer; 1 after the last.
        first_weight: Where each layer's weights begin.
        first_unit: Where each layer's units begin.
        layer_of: Layer of each hidden unit.
        maps: A_k of the prior's components, ``(K, S, S)``.
        shifts: c_k, ``(K, S)``.
        log_shares: log pi_k - log det L_k + log det L, ``(K,)``.
    """

    weights: Array
    biases: Array
    widths: NDArray[np.int64]
    slopes: Array
    first_weight: NDArray[np.int64]
    first_unit: NDArray[np.int64]
    layer_of: NDArray[np.int64]
    maps: Array
    shifts: Array
    log_shares: Array


@dataclass(frozen=True)
class LineProblem:
    """A generator in coordinates u, and the arrays that the compiled sweep reads.

    Attributes:
        folded: The generator under one Gaussian, which defines u and reduces the data.
        net: Layers and prior.
    """

    folded: FoldedGenerator
    net: Net

    @property
    def latent_dim(self) -> int:
        """Number of latent coordinates S."""
        return self.folded.latent_dim


def line_problem(stack: AffineStack) -> LineProblem:
    """Make a generator ready.

    Args:
        stack: The generator; any latent dimension, a Gaussian prior or a mixture.

    Returns:
        The problem, float64.

    Raises:
        GeneratorError: If a parameter is not finite or a scale not positive.
    """
    folded = fold(_overall(stack))
    maps, shifts, log_shares = _components(stack, folded)
    layers = layers_of(folded)
    sizes = layers.widths[:-1] * layers.widths[1:]
    hidden = layers.widths[1:-1]
    net = Net(
        *layers,
        first_weight=np.cumsum(sizes) - sizes,
        first_unit=np.concatenate([[0], np.cumsum(layers.widths[1:])[:-1]]).astype(np.int64),
        layer_of=np.repeat(np.arange(len(hidden)), hidden),
        maps=maps,
        shifts=shifts,
        log_shares=log_shares,
    )
    return LineProblem(folded, net)


def _overall(stack: AffineStack) -> AffineStack:
    """The generator under the Gaussian that has its prior's mean and covariance."""
    if stack.prior_logits is None:
        return stack
    for component in stack.components():
        fold(component)  # refuses what is not finite or positive
    share = stack.prior_logits.detach().double().softmax(0)
    means, factors = stack.prior_loc.detach().double(), stack.prior_scale_tril.detach().double()
    loc = share @ means
    spread = factors.tril() @ factors.tril().mT + torch.einsum(
        "ks,kt->kst", means - loc, means - loc
    )
    factor = torch.linalg.cholesky(torch.einsum("k,kst->st", share, spread))
    return replace(stack, prior_loc=loc, prior_scale_tril=factor, prior_logits=None)


def _components(stack: AffineStack, folded: FoldedGenerator) -> tuple[Array, Array, Array]:
    dim = folded.latent_dim
    if stack.prior_logits is None:
        return np.eye(dim)[None], np.zeros((1, dim)), np.zeros(1)
    factors = stack.prior_scale_tril.detach().double().cpu().tril().numpy()
    means = stack.prior_loc.detach().double().cpu().numpy()
    log_share = stack.prior_logits.detach().double().cpu().log_softmax(0).numpy()
    inverse = np.linalg.inv(factors)
    log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
    return (
        np.ascontiguousarray(inverse @ folded.prior_scale_tril),
        np.einsum("kst,kt->ks", inverse, folded.prior_loc - means),
        log_share - log_det + folded.log_det_prior,
    )
