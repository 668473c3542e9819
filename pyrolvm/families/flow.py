r"""Planar normalizing flow whose parameters are all in λ, for posteriors that are bent.

.. math:: z = m + L \, (f_T \circ \dots \circ f_1)(\varepsilon), \qquad
          f(v) = v + \hat u \tanh(w^\top v + b), \qquad \varepsilon \sim N(0, I)

The affine map comes last, where the original has it first: the same set of densities, since planar
layers are closed under affine maps, but the layers then act on standardised coordinates however
narrow the posterior is.

References:
    Rezende & Mohamed (2015), Variational Inference with Normalizing Flows.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from pyrolvm.families.family import Family, Transport, along_batch, equally_weighted, positive
from pyrolvm.families.planar_flow import MARGIN, PlanarFlow
from pyrolvm.families.triangular import num_scale_parameters, raw_of_scale_tril, scale_tril


class Flow(Family):
    """Planar flow: mean, Cholesky parameters, then w, u and b of each layer.

    Args:
        dim: Dimension D of the latent vector.
        num_layers: Number of planar layers T.

    >>> Flow(2, num_layers=3).num_parameters
    20
    """

    name = "flow"

    def __init__(self, dim: int, num_layers: int = 8) -> None:
        super().__init__(dim)
        self.num_layers = positive(num_layers, "number of layers")

    @property
    def num_parameters(self) -> int:
        """Mean, Cholesky factor and 2 D + 1 numbers a layer."""
        return self.dim + num_scale_parameters(self.dim) + self.num_layers * (2 * self.dim + 1)

    def distribution(self, parameters: Float[Tensor, "*batch P"]) -> PlanarFlow:
        """Return the flow of these parameters."""
        width = self.num_layers * self.dim
        loc, raw, direction, shift, bias = parameters.split(
            [self.dim, num_scale_parameters(self.dim), width, width, self.num_layers], -1
        )
        direction = direction.unflatten(-1, (self.num_layers, self.dim))
        shift = shift.unflatten(-1, (self.num_layers, self.dim))
        factor = scale_tril(raw, self.dim)
        return PlanarFlow(loc, factor, direction, invertible_shift(direction, shift), bias)

    def from_gaussian(
        self, loc: Float[Tensor, "*batch D"], scale_tril: Float[Tensor, "*batch D D"]
    ) -> Float[Tensor, "*batch P"]:
        """Return exactly this Gaussian: its layers differ in direction, and do not move yet."""
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(
            self.num_layers, self.dim, generator=generator, dtype=torch.float64
        )
        direction = direction / direction.norm(dim=-1, keepdim=True)
        bias = torch.linspace(-1, 1, self.num_layers, dtype=torch.float64)
        layers = torch.cat([direction.flatten(), torch.zeros_like(direction).flatten(), bias]).to(
            loc
        )
        return torch.cat(
            [loc, raw_of_scale_tril(scale_tril), layers.expand(*loc.shape[:-1], -1)], -1
        )

    def transport(
        self, parameters: Float[Tensor, "*batch P"], noise: Float[Tensor, "S D"]
    ) -> Transport:
        """Push the noise through the layers, which gives its density as well."""
        q = self.distribution(parameters)
        return equally_weighted(*q.push(along_batch(noise, q.loc)))

    def covariance(self, parameters: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch D D"]:
        """Raise: a flow's moments have no closed form; average over draws.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "A planar flow's covariance has no closed form; average over draws."
        )

    def __repr__(self) -> str:
        return f"Flow(dim={self.dim}, num_layers={self.num_layers})"


def invertible_shift(
    direction: Float[Tensor, "*batch D"], shift: Float[Tensor, "*batch D"]
) -> Float[Tensor, "*batch D"]:
    r"""Change u along w so that :math:`w^\top \hat u > -1`; u = 0 stays 0.

    .. math:: \hat u = u + (\mu(w^\top u) - w^\top u) \, w / \|w\|^2, \qquad
              \mu(a) = (1 - \delta) (\operatorname{softplus}(a + \log(e - 1)) - 1)
    """
    along = (direction * shift).sum(-1, keepdim=True)
    wanted = (1 - MARGIN) * (softplus(along + math.log(math.e - 1)) - 1)
    length = direction.square().sum(-1, keepdim=True).clamp_min(torch.finfo(direction.dtype).tiny)
    return shift + (wanted - along) * direction / length
