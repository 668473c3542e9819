"""Multilayer perceptrons that act on the last axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pyrolvm.core.errors import SettingError, UnknownNameError


class Abs(nn.Module):
    """Absolute value, the piecewise-affine activation with slope −1 left of 0."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return |inputs|, same shape."""
        return torch.abs(inputs)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "abs": Abs,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}

PIECEWISE_AFFINE = ("relu", "leaky_relu", "abs")
"""Activations that keep a network piecewise affine, as the exact engine needs it."""


def mlp(
    in_dim: int, hidden: Sequence[int], out_dim: int, activation: str = "relu"
) -> nn.Sequential:
    """Build Linear layers with an activation between them; a single Linear for ``hidden=()``.

    Args:
        in_dim: Width of the input.
        hidden: Widths of the hidden layers.
        out_dim: Width of the output.
        activation: A key of :data:`ACTIVATIONS`.

    Raises:
        UnknownNameError: If there is no such activation.
        SettingError: If a width is not positive.

    >>> mlp(2, (3,), 4)(torch.zeros(5, 2)).shape
    torch.Size([5, 4])
    """
    if activation not in ACTIVATIONS:
        raise UnknownNameError("activation", activation, ACTIVATIONS)
    widths = [in_dim, *hidden, out_dim]
    if any(not isinstance(width, int) or width < 1 for width in widths):
        raise SettingError(f"Widths of layers must be positive whole numbers, but got {widths}.")
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
