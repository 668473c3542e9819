r"""Posterior moments summed over data, region by region: what an M-step needs of the E-step.

With :math:`\varphi = (1, u - c)` in whitened latent coordinates u around the region's anchor c,

.. math:: M_\omega = \sum_n w_n E[\varphi \varphi^\top 1_\omega \mid x_n], \qquad
          T_\omega = \sum_n w_n E[\varphi\, 1_\omega \mid x_n] \, y_n^\top

for weights w_n and targets y_n. The number of data is gone afterwards.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from pyrolvm.exact.expectation import Expectation
from pyrolvm.exact.folding import Array

# Regions less probable than this (for every datum) leave no trace in a float64 sum.
DUST = 1e-17


class RegionMoments:
    """Moments of (1, u - c) by region, for the regions that carry mass.

    Args:
        found: The E-step's result.
        weight: w_n, ``(N,)``; it may be negative.

    Attributes:
        weight: The same.
        used: Numbers of the regions, ``(R,)``.
        anchors: One point c of each region, ``(R, S)``.
        codes: Whether each hidden unit is positive there, ``(R, units)``.
        outer: M, ``(R, S + 1, S + 1)``.
        pairs: E[1 on the region | x_n] and E[(u - c) on the region | x_n], S + 1 sparse matrices
            ``(N, R)``, unweighted.
    """

    def __init__(self, found: Expectation, weight: Array) -> None:
        kept = found.probability > DUST
        used = np.unique(found.region[kept]).astype(np.int64)
        self.weight, self.used = weight, used
        self.anchors = found.partition.anchors[used]
        self.codes = found.partition.codes[used]
        size, regions, dim = len(found.log_evidence), len(used), self.anchors.shape[1]
        datum, column = found.datum[kept], np.searchsorted(used, found.region[kept])
        offsets = np.searchsorted(datum, np.arange(size + 1))
        p, mean, covariance = found.probability[kept], found.mean[kept], found.covariance[kept]
        first = np.concatenate([p[:, None], p[:, None] * mean], 1)
        second = p[:, None, None] * (covariance + mean[:, :, None] * mean[:, None, :])
        self.pairs = [
            csr_array((first[:, i], column, offsets), shape=(size, regions))
            for i in range(dim + 1)
        ]
        self.outer = np.empty((regions, dim + 1, dim + 1))
        share = weight[datum]
        for i in range(dim + 1):
            total = np.bincount(column, share * first[:, i], regions)
            self.outer[:, 0, i] = self.outer[:, i, 0] = total
            for j in range(dim if i else 0):
                total = np.bincount(column, share * second[:, i - 1, j], regions)
                self.outer[:, i, j + 1] = total

    def expected(self, maps: Array) -> Array:
        """Posterior mean of what is affine on each region, unweighted.

        Args:
            maps: Value at the anchor and slopes, ``(R, S + 1, H)``.

        Returns:
            Shape ``(N, H)``.
        """
        total: Array = self.pairs[0] @ maps[:, 0]
        for i in range(1, len(self.pairs)):
            total += self.pairs[i] @ maps[:, i]
        return total

    def second(self, maps: Array) -> Array:
        """Weighted sum over data of the posterior mean of h h^T, ``(H, H)``.

        Args:
            maps: Value of h at the anchor and slopes, ``(R, S + 1, H)``.
        """
        spread = self.outer @ maps
        width = maps.shape[2]
        return maps.reshape(-1, width).T @ spread.reshape(-1, width)

    def cross(self, targets: Array) -> Array:
        """T, the weighted sum over data of moments times targets.

        Args:
            targets: y, ``(N, D)``.

        Returns:
            Shape ``(R, S + 1, D)``.
        """
        weighted = targets * self.weight[:, None]
        return np.stack([moment.T @ weighted for moment in self.pairs], 1)
