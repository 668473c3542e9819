r"""Mean and covariance of the data that a generator makes, exactly.

.. math:: E[x] = \sum_\omega (A_\omega e^1_\omega + b_\omega e^0_\omega), \qquad
          \operatorname{Cov}[x] = \operatorname{diag}(\sigma^2)
          + \sum_\omega E[(g(z) - E x)(g(z) - E x)^\top 1_\omega]

with the moments e of the prior on each region: those of a posterior given no observation at all.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (moments on regions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyrolvm.exact.features import feature_moments
from pyrolvm.exact.folding import to_numpy
from pyrolvm.exact.mixture_posterior import MixturePosterior
from pyrolvm.exact.partition import Partition
from pyrolvm.exact.solving import solve
from pyrolvm.exact.stack import AffineStack


@dataclass(frozen=True)
class DataMoments:
    """First and second moments of p(x), noise included. Float64, without a graph.

    Attributes:
        mean: E[x], ``(D,)``.
        covariance: Cov[x], ``(D, D)``.
    """

    mean: Tensor
    covariance: Tensor


def data_moments(
    stack: AffineStack, *, partition: Partition | Sequence[Partition] | None = None
) -> DataMoments:
    """Moments of a generator's marginal p(x).

    Args:
        stack: The generator.
        partition: See :func:`~pyrolvm.exact.solve`.

    Returns:
        Mean and covariance of x, on the device of the generator.

    Raises:
        LatentDimensionError: And whatever else :func:`~pyrolvm.exact.solve` raises.
    """
    device = stack.noise_scale.device
    nothing = torch.zeros(stack.obs_dim, dtype=torch.bool, device=device)
    empty = torch.zeros(1, 0, dtype=torch.float64, device=device)
    prior = solve(stack.observe(nothing), empty, partition=partition)
    if isinstance(prior, MixturePosterior):
        parts, share = prior.parts, to_numpy(prior.responsibilities)[0]
    else:
        parts, share = (prior,), np.ones(1)
    moments = [feature_moments(part) for part in parts]
    means = np.concatenate([mean for mean, _ in moments])
    mean = share @ means
    spread = np.concatenate([covariance for _, covariance in moments])
    rest = means - mean
    total = np.einsum("k,kab->ab", share, spread + rest[:, :, None] * rest[:, None, :])
    weight, bias = to_numpy(stack.weights[-1]), to_numpy(stack.biases[-1])
    covariance = weight @ total @ weight.T
    covariance = 0.5 * (covariance + covariance.T) + np.diag(to_numpy(stack.noise_scale) ** 2)
    return DataMoments(
        mean=torch.from_numpy(weight @ mean + bias).to(device),
        covariance=torch.from_numpy(covariance).to(device),
    )
