r"""A masked network whose i-th block of outputs sees the coordinates before the i-th alone.

.. math:: \theta_i = \theta_i(u_1, \ldots, u_{i-1}), \qquad i = 1, \ldots, d

Every hidden unit has a degree m and reads coordinates up to the m-th and units of degree at most
m; block i reads units of degree below i. There is no permutation: the order is 1, ..., d.

References:
    Germain, Gregor, Murray & Larochelle (2015), MADE: Masked Autoencoder for Distribution
    Estimation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.core.errors import require_at_least


class MaskedLinear(nn.Linear):
    """A linear layer in which some weights are held at 0.

    Args:
        mask: True where an input is read, shape ``(outputs, inputs)``.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype))

    def forward(self, input: Tensor) -> Tensor:
        """Apply the masked weights to the last axis."""
        return nn.functional.linear(input, self.weight * self.mask, self.bias)


class Conditioner(nn.Module):
    """Parameters of an autoregressive layer, near 0 before training.

    Args:
        dim: Number of coordinates d.
        num_parameters: Parameters of each coordinate.
        hidden: Widths of the hidden layers.
        init_scale: Factor on the last layer's weights at the start; its biases are 0.
    """

    def __init__(
        self,
        dim: int,
        num_parameters: int,
        hidden: Sequence[int] = (32, 32),
        init_scale: float = 0.1,
    ) -> None:
        super().__init__()
        require_at_least(1, dim=dim, num_parameters=num_parameters, hidden=min(hidden, default=1))
        self.dim, self.num_parameters = dim, num_parameters
        inputs = torch.arange(1, dim + 1)
        blocks = torch.arange(dim).repeat_interleave(num_parameters)  # read degrees up to i - 1
        degrees = [inputs, *(_degrees(width, dim) for width in hidden), blocks]
        layers: list[nn.Module] = []
        for before, after in pairwise(degrees):
            layers += [MaskedLinear(after[:, None] >= before[None, :]), nn.Tanh()]
        self.layers = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            last = self.layers[-1]
            assert isinstance(last, MaskedLinear)
            last.weight.mul_(init_scale)
            last.bias.zero_()

    def forward(self, inputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim P"]:
        """Return the parameters; row i depends on the coordinates before the i-th."""
        return self.layers(inputs).unflatten(-1, (self.dim, self.num_parameters))


def _degrees(width: int, dim: int) -> Tensor:
    """Degrees 1, ..., d - 1 in turn; a unit of degree d would be read by nobody."""
    return torch.arange(width) % max(dim - 1, 1) + min(dim - 1, 1)
