r"""All states of a layer of binary units, and their probabilities.

.. math:: \log P(s \mid a) = \sum_i s_i a_i - \log(1 + e^{a_i}), \qquad s \in \{0, 1\}^n
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def all_states(
    width: int,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
) -> Float[Tensor, "states width"]:
    """Return the states of n binary units in counting order, the first unit the lowest bit.

    Args:
        width: Number of units n.
        dtype: Floating type of the zeros and ones.
        device: Where they shall lie.
        start: First state.
        stop: State after the last one; None takes all 2^n.

    Returns:
        Shape ``(stop - start, n)``.

    >>> all_states(2, torch.int64).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    codes = torch.arange(start, 2**width if stop is None else min(stop, 2**width), device=device)
    return ((codes[:, None] >> torch.arange(width, device=device)) & 1).to(dtype)


def log_probabilities(
    logits: Float[Tensor, "parents width"], states: Float[Tensor, "states width"]
) -> Float[Tensor, "parents states"]:
    """Return the log probability of each state under each vector of log odds.

    Args:
        logits: Log odds of the units, shape ``(R, n)``.
        states: Zeros and ones, shape ``(S, n)``.

    Returns:
        Nats, shape ``(R, S)``.
    """
    return logits @ states.mT - log_normaliser(logits)[:, None]


def log_normaliser(logits: Float[Tensor, "*batch width"]) -> Float[Tensor, " *batch"]:
    """Return Σ log(1 + e^a) over the units, to full precision."""
    return softplus(logits, threshold=40.0).sum(-1)
