r"""A network of one hidden layer with a proven Lipschitz constant.

.. math:: g(z) = s \, W_2 \tanh(W_1 z + b_1) + b_2, \qquad
          s = \min\{1, \; c \,/\, (\|W_1\| \, \|W_2\|)\}

with exact spectral norms, so that :math:`\|g(z) - g(z')\| \le c \, \|z - z'\|` for any weights,
also for trained ones. A network of random weights stays far below such a bound and is nearly
linear; this one starts where the bound is attained: all units switch at one point, and
:math:`W_2 \propto B W_1^\top` for a matrix B with orthonormal rows or columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.nn.orthonormal import random_orthonormal

TANH_BEND = 4 / (3 * math.sqrt(3))
"""Largest second derivative of tanh."""


class LipschitzNetwork(nn.Module):
    """A map of the last axis that stretches no distance by more than a factor.

    Args:
        in_dim: Width of the input.
        hidden: Number of tanh units.
        out_dim: Width of the output.
        constant: The Lipschitz constant c, positive.
        input_scale: Standard deviation of what reaches a unit when the input is standard normal;
            the units are nearly linear at 0.1 and mostly saturated at 10.
        frame: The matrix B, shape ``(out_dim, in_dim)``, with singular values 0 and 1; random
            where it is None.

    Raises:
        SettingError: If a width or a constant is not positive.
    """

    def __init__(
        self,
        in_dim: int,
        hidden: int,
        out_dim: int,
        constant: float,
        input_scale: float = 1.0,
        frame: Tensor | None = None,
    ) -> None:
        super().__init__()
        require_at_least(1, latent_dim=in_dim, hidden=hidden, out_dim=out_dim)
        if not (0 < constant < math.inf and 0 < input_scale < math.inf):
            raise SettingError(
                "A Lipschitz constant and an input scale must be positive and finite, but they "
                f"are {constant} and {input_scale}."
            )
        self.constant = constant
        frame = random_orthonormal(out_dim, in_dim) if frame is None else frame
        weight = (
            input_scale * math.sqrt(max(hidden / in_dim, 1)) * random_orthonormal(hidden, in_dim)
        )
        self.input_weight = nn.Parameter(weight)
        self.input_bias = nn.Parameter(-weight @ torch.randn(in_dim))
        outer = frame @ weight.mT
        self.output_weight = nn.Parameter(outer * constant / (_norm(outer) * _norm(weight)))
        self.output_bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, z: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        """Return g(z)."""
        inner = torch.tanh(z @ self.input_weight.mT + self.input_bias)
        return inner @ self._rescaled().mT + self.output_bias

    @property
    def second_order_bound(self) -> float:
        r"""Bound on the second derivative, :math:`4/(3\sqrt 3) \, s \|W_2\| \, \|W_1\|^2`."""
        with torch.no_grad():
            norms = _norm(self._rescaled()) * _norm(self.input_weight) ** 2
        return TANH_BEND * norms.item()

    def _rescaled(self) -> Tensor:
        product = _norm(self.input_weight) * _norm(self.output_weight)
        return self.output_weight * (self.constant / product).clamp(max=1.0)


def single_width(hidden: int | Sequence[int]) -> int:
    """Return the width of the hidden layer from a number or a sequence of one.

    Raises:
        SettingError: If there are more hidden layers, or none.
    """
    widths = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    if len(widths) != 1:
        raise SettingError(
            f"A LipschitzNetwork has one hidden layer, but hidden={hidden!r} asks for "
            f"{len(widths)}. Give one width."
        )
    return widths[0]


def _norm(matrix: Tensor) -> Tensor:
    """Largest singular value."""
    return torch.linalg.matrix_norm(matrix, 2)
