r"""Affine autoregressive layer.

.. math:: v_i = e^{a_i(u_{<i})} u_i + b_i(u_{<i})

References:
    Papamakarios, Pavlakou & Murray (2017), Masked Autoregressive Flow for Density Estimation.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from pyrolvm.nn.triangular.autoregressive import AutoregressiveLayer

LARGEST_LOG_SLOPE = 5.0


class AffineLayer(AutoregressiveLayer):
    """Shifts and scales each coordinate by functions of those before it.

    The log slope stays within ±5, so that far points neither overflow nor vanish.

    Args:
        dim: Dimension d.
        hidden: Widths of the conditioner's hidden layers.

    Raises:
        SettingError: If a size is below 1.
    """

    def __init__(self, dim: int, hidden: Sequence[int] = (32, 32)) -> None:
        super().__init__(dim, 2, hidden)

    def increase(
        self, inputs: Float[Tensor, "*batch"], parameters: Float[Tensor, "*batch P"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return slope · u + shift and the log slope."""
        log_slope, shift = _parts(parameters)
        return inputs * log_slope.exp() + shift, log_slope

    def undo(
        self, outputs: Float[Tensor, "*batch"], parameters: Float[Tensor, "*batch P"]
    ) -> Float[Tensor, "*batch"]:
        """Return (v - shift) / slope."""
        log_slope, shift = _parts(parameters)
        return (outputs - shift) * (-log_slope).exp()


def _parts(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Log slope and shift."""
    raw, shift = parameters.unbind(-1)
    return LARGEST_LOG_SLOPE * (raw / LARGEST_LOG_SLOPE).tanh(), shift
