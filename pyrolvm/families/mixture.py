r"""Mixture of Gaussians with full covariances, for posteriors with several modes.

.. math:: q(z; \lambda) = \sum_c \pi_c \, N(z; m_c, L_c L_c^\top)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import SettingError
from pyrolvm.families.family import Family, Transport, along_batch, positive
from pyrolvm.families.gaussian_mixture import GaussianMixture
from pyrolvm.families.triangular import (
    colour,
    num_scale_parameters,
    raw_of_scale_tril,
    scale_tril,
)

SPREAD = 0.4
"""Distance of the components from the Gaussian that they start from, in standard deviations."""


class Mixture(Family):
    """Mixture of full-covariance Gaussians: C logits, then means, then Cholesky parameters.

    Args:
        dim: Dimension D of the latent vector.
        num_components: Number of components C.

    >>> Mixture(2, num_components=3).num_parameters
    18
    """

    name = "mixture"

    def __init__(self, dim: int, num_components: int = 4) -> None:
        super().__init__(dim)
        self.num_components = positive(num_components, "number of components")

    @property
    def num_parameters(self) -> int:
        """Weight, mean and Cholesky factor of each component."""
        return self.num_components * (1 + self.dim + num_scale_parameters(self.dim))

    def distribution(self, parameters: Float[Tensor, "*batch P"]) -> GaussianMixture:
        """Return the mixture of these parameters."""
        count = self.num_components
        logits, loc, raw = parameters.split(
            [count, count * self.dim, count * num_scale_parameters(self.dim)], -1
        )
        loc, raw = loc.unflatten(-1, (count, self.dim)), raw.unflatten(-1, (count, -1))
        return GaussianMixture(logits, loc, scale_tril(raw, self.dim))

    def from_gaussian(
        self, loc: Float[Tensor, "*batch D"], scale_tril: Float[Tensor, "*batch D D"]
    ) -> Float[Tensor, "*batch P"]:
        """Return a mixture with this mean and covariance, its components a little apart.

        Equal components would never part under a gradient; these differ from the Gaussian by about
        1e-4 nats.
        """
        offsets = self._offsets().to(loc)
        spread = offsets.mT @ offsets / self.num_components
        shrunk = torch.linalg.cholesky(torch.eye(self.dim).to(loc) - spread)
        locs = loc.unsqueeze(-2) + offsets @ scale_tril.mT
        raw = raw_of_scale_tril(scale_tril @ shrunk).unsqueeze(-2)
        raw = raw.expand(*loc.shape[:-1], self.num_components, -1)
        logits = loc.new_zeros(*loc.shape[:-1], self.num_components)
        return torch.cat([logits, locs.flatten(-2), raw.flatten(-2)], -1)

    def from_gaussians(
        self,
        locs: Float[Tensor, "*batch C D"],
        scale_trils: Float[Tensor, "*batch C D D"],
        log_weights: Float[Tensor, "*batch C"],
    ) -> Float[Tensor, "*batch P"]:
        """Return the parameters of a mixture of these Gaussians.

        Args:
            locs: Means, shape ``(..., C, D)``.
            scale_trils: Lower Cholesky factors of the covariances, shape ``(..., C, D, D)``.
            log_weights: Logarithms of the weights up to a constant, shape ``(..., C)``.

        Raises:
            SettingError: If there are not as many Gaussians as components.
        """
        if locs.shape[-2:] != (self.num_components, self.dim):
            raise SettingError(
                f"{self} needs {self.num_components} Gaussians in {self.dim} dimensions, but got "
                f"means of shape {tuple(locs.shape)}."
            )
        raw = raw_of_scale_tril(scale_trils)
        return torch.cat([log_weights, locs.flatten(-2), raw.flatten(-2)], -1)

    def transport(
        self, parameters: Float[Tensor, "*batch P"], noise: Float[Tensor, "S D"]
    ) -> Transport:
        """Push all noise through each component; its points share the component's weight."""
        q = self.distribution(parameters)
        white = along_batch(noise, q.loc[..., 0, :]).unsqueeze(-2)
        every = q.loc + colour(q.scale_tril, white.expand(len(noise), *q.loc.shape))
        z = every.movedim(-2, 0).flatten(0, 1)
        shares = (q.log_mixing - math.log(len(noise))).movedim(-1, 0)
        log_weight = shares.repeat_interleave(len(noise), 0)
        return Transport(z, q.log_prob(z), log_weight)

    def covariance(self, parameters: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch D D"]:
        """Return the covariance of the mixture."""
        return self.distribution(parameters).covariance_matrix

    def _offsets(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(
            self.num_components, self.dim, generator=generator, dtype=torch.float64
        )
        centred = directions - directions.mean(0)
        return SPREAD * centred / centred.square().sum(-1).mean().sqrt().clamp_min(1e-12)

    def __repr__(self) -> str:
        return f"Mixture(dim={self.dim}, num_components={self.num_components})"
