r"""Gaussian with any covariance, parametrised by its Cholesky factor.

.. math:: q(z; \lambda) = N(z; m, L L^\top)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Tensor

from pyrolvm.families.family import Family, Transport, along_batch, equally_weighted
from pyrolvm.families.triangular import (
    colour,
    num_scale_parameters,
    raw_of_scale_tril,
    scale_tril,
)


class Full(Family):
    """Multivariate normal: D means, D raw scales, D (D − 1) / 2 entries below the diagonal.

    >>> Full(3).num_parameters
    9
    """

    name = "full"

    @property
    def num_parameters(self) -> int:
        """Mean and Cholesky factor."""
        return self.dim + num_scale_parameters(self.dim)

    def distribution(self, parameters: Float[Tensor, "*batch P"]) -> TorchDistribution:
        """Return the multivariate normal of these parameters."""
        loc, raw = parameters[..., : self.dim], parameters[..., self.dim :]
        return MultivariateNormal(loc, scale_tril=scale_tril(raw, self.dim))

    def from_gaussian(
        self, loc: Float[Tensor, "*batch D"], scale_tril: Float[Tensor, "*batch D D"]
    ) -> Float[Tensor, "*batch P"]:
        """Return the parameters of exactly this Gaussian."""
        return torch.cat([loc, raw_of_scale_tril(scale_tril)], -1)

    def covariance(self, parameters: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch D D"]:
        """Return L Lᵀ."""
        factor = scale_tril(parameters[..., self.dim :], self.dim)
        return factor @ factor.mT

    def transport(
        self, parameters: Float[Tensor, "*batch P"], noise: Float[Tensor, "S D"]
    ) -> Transport:
        """Scale and shift the noise."""
        q = self.distribution(parameters)
        z = q.mean + colour(
            q.scale_tril, along_batch(noise, q.mean).expand(len(noise), *q.mean.shape)
        )
        return equally_weighted(z, q.log_prob(z))
