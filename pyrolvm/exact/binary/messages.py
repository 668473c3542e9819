r"""Sums over a stack of binary layers, from the top down, one transfer matrix after another.

.. math:: m_L(h_L) = \log p(h_L), \qquad
          m_l(h_l) = \log \sum_{h_{l+1}} e^{\log p(h_l \mid h_{l+1}) + m_{l+1}(h_{l+1})}

so that :math:`m_1` is the log marginal of the lowest layer. With a recognition chain q, and half
of each log probability,

.. math:: m^*_L = \tfrac12 \log p(h_L), \qquad m^*_l(h_l) = \log \sum_{h_{l+1}}
          e^{\frac12 \log p(h_l \mid h_{l+1}) + \frac12 \log q(h_{l+1} \mid h_l)
             + m^*_{l+1}(h_{l+1})}

carries what the geometric mean of both needs. The cost is :math:`\sum_l 2^{n_l + n_{l+1}}`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.exact.binary.states import all_states, log_probabilities

Logits = Callable[[Tensor], Tensor]
"""From states of one layer, ``(S, n)``, to the log odds of the next one, ``(S, m)``."""

CHUNK_CELLS = 2**22
"""Cells of a transfer matrix that are held at once; 32 MiB in double precision."""


def message_down(
    message: Float[Tensor, " upper"], width: int, down: Logits, up: Logits | None = None
) -> Float[Tensor, " lower"]:
    """Sum a layer out and hand what remains to the layer below.

    Args:
        message: Log weight of each state of the upper layer, shape ``(2^m,)``, in the order of
            :func:`all_states`.
        width: Units n of the lower layer.
        down: Log odds of the lower layer given the upper.
        up: Log odds of the upper layer given the lower, for the geometric mean of both; None for
            the downward conditional alone.

    Returns:
        Log weight of each state of the lower layer, shape ``(2^n,)``.
    """
    upper_width = (len(message) - 1).bit_length()
    upper = all_states(upper_width, message.dtype, message.device)
    logits = down(upper)
    parts = []
    size = max(1, CHUNK_CELLS // len(message))
    for start in range(0, 2**width, size):
        lower = all_states(width, message.dtype, message.device, start=start, stop=start + size)
        table = log_probabilities(logits, lower).mT
        if up is not None:
            table = (table + log_probabilities(up(lower), upper)) / 2
        parts.append((table + message).logsumexp(-1))
    return torch.cat(parts)
