r"""Posterior moments of the last hidden layer, and of what the last layer makes of it.

.. math:: E[h \mid x] = \sum_\omega P(\omega \mid x) \, E[H_\omega + J_\omega (u - c_\omega)
          \mid \omega, x], \qquad g(z) = W_L h + v_L

so that mean and variance of any affine read-out of h, seen or missing, are those of h turned by
W. No table of data times regions times outputs is made.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (moments on regions).
"""

from __future__ import annotations

import numpy as np

from pyrolvm.exact.folding import Array
from pyrolvm.exact.mixture_posterior import MixturePosterior
from pyrolvm.exact.posterior import PiecewisePosterior
from pyrolvm.exact.propagation import hidden_maps
from pyrolvm.exact.threads import run_in_threads

# Largest number of doubles in a thread's working table.
TABLE = 2_000_000


def feature_moments(posterior: PiecewisePosterior) -> tuple[Array, Array]:
    """Mean and covariance of the last hidden layer given each datum.

    Args:
        posterior: Under a single Gaussian prior.

    Returns:
        E[h | x_n] of shape ``(N, H)`` and Cov[h | x_n] of shape ``(N, H, H)``; h is z itself if
        there is no hidden layer.
    """
    features = _Features(posterior)
    return features.of(0, posterior.size)


def output_moments(
    posterior: PiecewisePosterior | MixturePosterior, weight: Array, bias: Array
) -> tuple[Array, Array]:
    """Mean and variance of W h + b given each datum, without observation noise.

    Args:
        posterior: Under any prior.
        weight: W, ``(D, H)``.
        bias: b, ``(D,)``.

    Returns:
        Two arrays ``(N, D)``.
    """
    if isinstance(posterior, MixturePosterior):
        share = posterior.responsibilities.T[:, :, None].cpu().numpy()
        each = [output_moments(part, weight, bias) for part in posterior.parts]
        means, variances = (np.stack(column) for column in zip(*each, strict=True))
        mean = (share * means).sum(0)
        return mean, (share * (variances + (means - mean) ** 2)).sum(0)
    features = _Features(posterior)
    largest = max(1, TABLE // (features.width * max(1, features.width, len(bias))))

    def run(begin: int, end: int) -> tuple[Array, Array]:
        mean, covariance = features.of(begin, end)
        variance = np.einsum("nhd,dh->nd", covariance @ weight.T, weight)
        return mean @ weight.T + bias, np.maximum(variance, 0.0)

    parts = run_in_threads(run, posterior.size, 8, largest)
    mean, variance = (np.concatenate(column) for column in zip(*parts, strict=True))
    return mean, variance


class _Features:
    """Affine maps of the last hidden layer on the regions that the data meet."""

    def __init__(self, posterior: PiecewisePosterior) -> None:
        folded, found = posterior.folded, posterior.expectation
        self.found = found
        used, self.region = np.unique(found.region, return_inverse=True)
        anchors = found.partition.anchors[used]
        if folded.weights:
            values, jacobian = hidden_maps(folded, anchors, found.partition.codes[used])
        else:
            values, tril = folded.to_latent(anchors), folded.prior_scale_tril
            jacobian = np.broadcast_to(tril.T, (len(used), *tril.shape))
        self.values, self.jacobian = np.ascontiguousarray(values), np.ascontiguousarray(jacobian)
        self.width = self.values.shape[1]

    def of(self, begin: int, end: int) -> tuple[Array, Array]:
        """Mean ``(end - begin, H)`` and covariance ``(end - begin, H, H)`` of some data."""
        from pyrolvm.exact.feature_kernel import moments_of_features

        found, size = self.found, end - begin
        first = np.empty((size, self.width))
        second = np.empty((size, self.width, self.width))
        moments_of_features(
            begin, end, found.offsets, self.region, found.probability, found.mean,
            found.covariance, self.values, self.jacobian, first, second,
        )  # fmt: skip
        return first, second
