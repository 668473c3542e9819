r"""The product of two densities of independent normals, normalised.

.. math:: N(z; m, s^2) \, N(z; \mu, \sigma^2) \propto
          N\Bigl(z; \frac{m / s^2 + \mu / \sigma^2}{1 / s^2 + 1 / \sigma^2},
          \frac{1}{1 / s^2 + 1 / \sigma^2}\Bigr)
"""

from __future__ import annotations

from pyro.distributions import Independent, Normal, TorchDistribution


def product_of_normals(first: TorchDistribution, second: TorchDistribution) -> TorchDistribution:
    """Return the normalised product of two densities of independent normals.

    Args:
        first: Batch shape ``(...)``, event shape ``(D,)``.
        second: The same.

    >>> import torch
    >>> one = Normal(torch.zeros(3, 2), 1.0).to_event(1)
    >>> product_of_normals(one, one).variance[0]
    tensor([0.5000, 0.5000])
    """
    ours, theirs = first.variance.reciprocal(), second.variance.reciprocal()
    precision = ours + theirs
    loc = (ours * first.mean + theirs * second.mean) / precision
    return Normal(loc, precision.rsqrt()).to_event(1)


def are_normals(distribution: TorchDistribution) -> bool:
    """Whether a distribution of vectors is one of independent normals."""
    return isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal)
