"""Autoregressive layer of rational-quadratic splines."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.nn.triangular.autoregressive import AutoregressiveLayer
from pyrolvm.nn.triangular.rational_quadratic import RationalQuadraticSpline


class SplineLayer(AutoregressiveLayer):
    """Maps each coordinate by a spline whose knots are functions of those before it.

    It is the identity outside the box, so data should be standardised before. Layers stack, always
    in the order 1, ..., d.

    Args:
        dim: Dimension d.
        hidden: Widths of the conditioner's hidden layers.
        bins: Number of bins K of each spline.
        bound: Half the width of the box.

    Raises:
        SettingError: If a size is too small, or the bound is not positive.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int] = (32, 32), bins: int = 8, bound: float = 5.0
    ) -> None:
        require_at_least(2, bins=bins)
        check_bound(bound)
        super().__init__(dim, 3 * bins - 1, hidden)
        self.bound = bound

    def increase(
        self, inputs: Float[Tensor, "*batch"], parameters: Float[Tensor, "*batch P"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return the values of the splines and the logs of their slopes."""
        return RationalQuadraticSpline.from_free(parameters, self.bound)(inputs)

    def undo(
        self, outputs: Float[Tensor, "*batch"], parameters: Float[Tensor, "*batch P"]
    ) -> Float[Tensor, "*batch"]:
        """Return the inputs of the splines."""
        return RationalQuadraticSpline.from_free(parameters, self.bound).inverse(outputs)


def check_bound(bound: float) -> None:
    """Refuse a box without extent.

    Raises:
        SettingError: If the bound is not positive.
    """
    if not 0 < bound < float("inf"):
        raise SettingError(f"bound should be positive and finite, but it is {bound}.")
