"""Stacks of triangular layers by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyrolvm.core.errors import UnknownNameError, require_at_least
from pyrolvm.nn.triangular.affine_layer import AffineLayer
from pyrolvm.nn.triangular.autoregressive import AutoregressiveLayer
from pyrolvm.nn.triangular.integral_layer import IntegralLayer
from pyrolvm.nn.triangular.spline_layer import SplineLayer

KINDS: dict[str, Callable[[int, Sequence[int]], AutoregressiveLayer]] = {
    "spline": SplineLayer,
    "integral": IntegralLayer,
    "affine": AffineLayer,
}


def triangular_layers(
    dim: int, layers: int = 2, kind: str = "spline", hidden: Sequence[int] = (32, 32)
) -> list[AutoregressiveLayer]:
    """Make layers of one kind, each after an affine one, and a last affine one.

    All have the order 1, ..., d, so that their composition is triangular monotone.

    Args:
        dim: Dimension d.
        layers: Number of layers of the kind.
        kind: A key of :data:`KINDS`.
        hidden: Widths of the hidden layers of each conditioner.

    Raises:
        UnknownNameError: If there is no such kind.
        SettingError: If a size is below 1.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of triangular layer", kind, KINDS)
    require_at_least(1, dim=dim, layers=layers)
    made: list[AutoregressiveLayer] = []
    for _ in range(layers):
        made += [AffineLayer(dim, hidden), KINDS[kind](dim, hidden)]
    return [*made, AffineLayer(dim, hidden)]
