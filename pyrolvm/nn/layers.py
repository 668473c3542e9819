"""Set the affine layers of a network in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def assign_layers(
    module: nn.Sequential, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> None:
    """Write weights and biases into the Linear layers of a network, in their order.

    Args:
        module: Linear layers with an activation between two of them.
        weights: Matrices, ``(out_features, in_features)`` each.
        biases: Vectors, ``(out_features,)`` each.
    """
    linears = [layer for layer in module if isinstance(layer, nn.Linear)]
    for layer, weight, bias in zip(linears, weights, biases, strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
