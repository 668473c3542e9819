r"""A network into the log odds of one latent layer of binary units.

.. math:: z_i \mid h \sim \text{Bernoulli}(\operatorname{sigmoid} r_i(h))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrolvm.nn.bernoulli_layer import INITIAL_BIAS, units
from pyrolvm.nn.gaussian_head import INITIAL_SHRINKAGE
from pyrolvm.nn.mlp import mlp


class BernoulliHead(nn.Module):
    """A multilayer perceptron into independent binary units, which start mostly off.

    Args:
        in_dim: Width of the input.
        hidden: Widths of the hidden layers; none makes the log odds affine in the input.
        dim: Number of units.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    >>> BernoulliHead(3, (8,), 2)(torch.zeros(5, 3)).event_shape
    torch.Size([2])
    """

    def __init__(
        self, in_dim: int, hidden: Sequence[int], dim: int, activation: str = "silu"
    ) -> None:
        super().__init__()
        self.network = mlp(in_dim, tuple(hidden), dim, activation)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight *= INITIAL_SHRINKAGE
            last.bias.fill_(INITIAL_BIAS)

    def forward(self, inputs: Float[Tensor, "*batch features"]) -> TorchDistribution:
        """Return the units of each input: batch shape ``(...)``, event shape ``(dim,)``."""
        return units(self.network(inputs))
