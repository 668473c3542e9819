r"""Gaussian with independent dimensions, the usual mean-field guide.

.. math:: q(z; \lambda) = \prod_d N(z_d; m_d, s_d^2)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyrolvm.families.family import Family, Transport, along_batch, equally_weighted
from pyrolvm.families.triangular import positive_scale, raw_scale


class Diagonal(Family):
    """Independent normals: D means, then D raw scales.

    >>> Diagonal(2).distribution(torch.zeros(5, 4)).event_shape
    torch.Size([2])
    """

    name = "diagonal"

    @property
    def num_parameters(self) -> int:
        """Twice the dimension."""
        return 2 * self.dim

    def distribution(self, parameters: Float[Tensor, "*batch P"]) -> TorchDistribution:
        """Return the independent normals of these parameters."""
        loc, raw = parameters.split(self.dim, -1)
        return Normal(loc, positive_scale(raw)).to_event(1)

    def from_gaussian(
        self, loc: Float[Tensor, "*batch D"], scale_tril: Float[Tensor, "*batch D D"]
    ) -> Float[Tensor, "*batch P"]:
        r"""Return the best diagonal member, which has the Gaussian's conditional precisions.

        The minimum of KL(q ‖ p) over diagonal q has the mean of p and the variances
        :math:`1 / (\Sigma^{-1})_{dd}`.
        """
        eye = torch.eye(self.dim, dtype=loc.dtype, device=loc.device).expand_as(scale_tril)
        inverse = torch.linalg.solve_triangular(scale_tril, eye, upper=False)
        scale = inverse.square().sum(-2).rsqrt()
        return torch.cat([loc, raw_scale(scale)], -1)

    def covariance(self, parameters: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch D D"]:
        """Return the diagonal covariance matrix."""
        return torch.diag_embed(self.distribution(parameters).variance)

    def transport(
        self, parameters: Float[Tensor, "*batch P"], noise: Float[Tensor, "S D"]
    ) -> Transport:
        """Scale and shift the noise."""
        q = self.distribution(parameters)
        z = q.mean + q.stddev * along_batch(noise, q.mean)
        return equally_weighted(z, q.log_prob(z))
