r"""Operations in forms that cost less once they are compiled, for graphs that will be.

The logistic losses need :math:`\log(1 + u)` for :math:`u = e^{-|a|} \in [0, 1]` only. There

.. math:: \log(1 + u) = 2 \operatorname{artanh} s = 2 \sum_k \frac{s^{2k + 1}}{2k + 1}, \qquad
          s = \frac{u}{2 + u} \le \tfrac13,

a few products where a library's ``log1p``, good for all numbers, takes most of the time of such a
loss. Values change by rounding alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

aten = torch.ops.aten
NUM_TERMS = {torch.float32: 8, torch.float64: 17}
"""Terms of the series: at s = 1/3 the next one is below the rounding of the sum."""
LINEAR_ABOVE = 20.0
"""Where ``softplus`` is the identity, unless it is told otherwise."""


def cheaper(graph: GraphModule) -> GraphModule:
    """Return a graph with the same values, up to rounding, whose compiled form is faster."""
    nodes = copy.deepcopy(graph.graph)
    for node in nodes.nodes:
        node.target = CHEAPER.get(node.target, node.target)
    return GraphModule(graph, nodes)


def log1p_of_exp(logits: Tensor) -> Tensor:
    """Return log(1 + exp(-|logits|)), of which the logistic losses are made."""
    decayed = torch.exp(-logits.abs())
    ratio = decayed / (2 + decayed)
    square = ratio * ratio
    last, *orders = reversed(range(NUM_TERMS[logits.dtype]))
    total = torch.full_like(logits, 1 / (2 * last + 1))
    for order in orders:
        total = total * square + 1 / (2 * order + 1)
    return 2 * ratio * total


def _has_series(logits: Tensor) -> bool:
    return logits.dtype in NUM_TERMS


def _log_sigmoid(logits: Tensor) -> tuple[Tensor, Tensor]:
    if not _has_series(logits):
        return aten.log_sigmoid_forward.default(logits)
    return logits.clamp(max=0) - log1p_of_exp(logits), torch.exp(-logits.abs())


def _cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor:
    if weight is not None or pos_weight is not None or reduction or not _has_series(logits):
        return aten.binary_cross_entropy_with_logits.default(
            logits, target, weight, pos_weight, reduction
        )
    return (1 - target) * logits - _log_sigmoid(logits)[0]


def _softplus(logits: Tensor, beta: float = 1.0, threshold: float = LINEAR_ABOVE) -> Tensor:
    if beta != 1.0 or threshold != LINEAR_ABOVE or not _has_series(logits):
        return aten.softplus.default(logits, beta, threshold)
    return logits.clamp(min=0) + log1p_of_exp(logits)


CHEAPER: dict[Any, Callable[..., Any]] = {
    aten.log_sigmoid_forward.default: _log_sigmoid,
    aten.binary_cross_entropy_with_logits.default: _cross_entropy,
    aten.softplus.default: _softplus,
}
