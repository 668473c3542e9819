r"""Network from one layer of binary units to the log odds of the next.

.. math:: P(h_i = 1 \mid v) = \operatorname{sigmoid}(b_i + W_i f(v))

with f the identity, or tanh layers without noise of their own.

References:
    Neal (1992), Connectionist Learning of Belief Networks.
    Bornschein et al. (2016), Bidirectional Helmholtz Machines (the initial weights, from their
    code).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrolvm.core.errors import require_at_least
from pyrolvm.nn.binary_units import BinaryUnits

INITIAL_BIAS = -1.0
"""Log odds of every unit before training, but for the small weights: units start mostly off."""


class BernoulliLayer(nn.Module):
    """Log odds of independent binary units, given a vector.

    Weights start uniform in ±√(6 / (in + out)) / in, far smaller than usual, so that before
    training the units hardly depend on their input; tanh layers start as any new layers do.

    Args:
        in_dim: Width of the input.
        dim: Number of units.
        num_deterministic: Tanh layers in between, each as wide as the mean of the two, rounded up.

    Raises:
        SettingError: If a number is out of range.

    >>> BernoulliLayer(3, 2).distribution(torch.zeros(5, 3)).event_shape
    torch.Size([2])
    """

    def __init__(self, in_dim: int, dim: int, num_deterministic: int = 0) -> None:
        super().__init__()
        require_at_least(1, in_dim=in_dim, dim=dim)
        require_at_least(0, num_deterministic=num_deterministic)
        between = (in_dim + dim + 1) // 2
        parts: list[nn.Module] = []
        for _ in range(num_deterministic):
            parts += [nn.Linear(in_dim, between), nn.Tanh()]
            in_dim = between
        self.network = nn.Sequential(*parts, initialised(nn.Linear(in_dim, dim)))

    def forward(self, inputs: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch dim"]:
        """Return log odds."""
        return self.network(inputs)

    def distribution(self, inputs: Float[Tensor, "*batch in"]) -> TorchDistribution:
        """Return the law of the units: batch shape ``(...)``, event shape ``(dim,)``."""
        return units(self(inputs))


class BernoulliTop(nn.Module):
    """Log odds of independent binary units, given nothing; they start mostly off.

    Args:
        dim: Number of units.

    Raises:
        SettingError: If it is not positive.

    >>> BernoulliTop(2)()
    Parameter containing:
    tensor([-1., -1.], requires_grad=True)
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        require_at_least(1, dim=dim)
        self.logits = nn.Parameter(torch.full((dim,), INITIAL_BIAS))

    def forward(self, above: Tensor | None = None) -> Float[Tensor, " dim"]:
        """Return log odds; there is nothing above to read."""
        return self.logits


def units(logits: Float[Tensor, "*batch dim"]) -> TorchDistribution:
    """Return independent binary units of these log odds, as one event."""
    return BinaryUnits(logits=logits).to_event(1)


def initialised(layer: nn.Linear) -> nn.Linear:
    """Give an affine layer small weights, and units that start mostly off."""
    bound = math.sqrt(6 / (layer.in_features + layer.out_features)) / layer.in_features
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound)
        layer.bias.fill_(INITIAL_BIAS)
    return layer
