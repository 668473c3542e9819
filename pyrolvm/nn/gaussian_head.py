r"""Networks into the distribution of one latent layer.

.. math:: z \mid h \sim N(m(h), \operatorname{diag}(s(h)^2)), \qquad
          s = \operatorname{softplus}(r(h)) + \epsilon
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyrolvm.nn.mlp import mlp

SCALE_FLOOR = 1e-4
"""Smallest scale that a head can put out."""

INITIAL_SHRINKAGE = 0.1


class GaussianHead(nn.Module):
    """A multilayer perceptron into a diagonal Gaussian whose scales start near one value.

    Args:
        in_dim: Width of the input.
        hidden: Widths of the hidden layers; none makes the parameters affine in the input.
        dim: Dimension of the Gaussian.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        initial_scale: Standard deviation at the start, up to what the small weights add.
        shrink_mean: Whether the mean too starts near 0; else it varies as in any new network.

    >>> GaussianHead(3, (8,), 2)(torch.zeros(5, 3)).event_shape
    torch.Size([2])
    """

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        dim: int,
        activation: str = "silu",
        *,
        initial_scale: float = 1.0,
        shrink_mean: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.network = mlp(in_dim, tuple(hidden), 2 * dim, activation)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight[0 if shrink_mean else dim :] *= INITIAL_SHRINKAGE
            last.bias.zero_()
            last.bias[dim:] = math.log(math.expm1(initial_scale))

    def forward(self, inputs: Float[Tensor, "*batch features"]) -> TorchDistribution:
        """Return the Gaussian of each input: batch shape ``(...)``, event shape ``(dim,)``."""
        loc, raw = self.network(inputs).split(self.dim, -1)
        return Normal(loc, softplus(raw) + SCALE_FLOOR).to_event(1)


def side_by_side(parts: Sequence[Float[Tensor, "*batch width"]]) -> Float[Tensor, "*batch total"]:
    """Join vectors along the last axis; missing leading dimensions, as of particles, are repeated.

    >>> side_by_side([torch.zeros(7, 3), torch.zeros(2, 7, 1)]).shape
    torch.Size([2, 7, 4])
    """
    batch = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)
