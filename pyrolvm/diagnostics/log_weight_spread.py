r"""How far log weights are from constant: their variance, and on which side they are long.

.. math:: \mathrm{Var}_q[\log w] = 0 \iff q(z) = p(z \mid x) \text{ wherever } q \text{ draws}

Half the variance is the gap :math:`\log p(x) - E_q[\log w]` where log weights are normal, and to
second order for any guide close to the posterior. For Gaussians with :math:`z = \mu + L \epsilon`,
:math:`A = I - L^\top \Sigma^{-1} L` and :math:`b = L^\top \Sigma^{-1} (\mu - m)` it is
:math:`\tfrac12 \operatorname{tr} A^2 + b^\top b`, and the third cumulant is
:math:`\operatorname{tr} A^3 + 3 b^\top A b`: negative where the guide is too wide (A < 0),
positive where it is too narrow. Tail shapes see only the latter.
"""

from __future__ import annotations

import torch

from pyrolvm.diagnostics.log_weights import LogWeights, PerDatum, checked

CONSTANT = 1e-9
"""Spread in nats below which log weights are equal up to rounding."""


def log_weight_variance(log_weights: LogWeights) -> tuple[PerDatum, PerDatum]:
    r"""Variance of each datum's log weights, and its standard error.

    The error takes the fourth moment into account,
    :math:`\sqrt{(m_4 - s^4 (K - 3) / (K - 1)) / K}`: log weights are seldom normal.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Value and standard error in squared nats, shape ``(N,)`` each; infinite where a draw has no
        weight at all, NaN for a single draw.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.

    Examples:
        >>> log_weight_variance(torch.tensor([[0.0], [2.0]]))[0]
        tensor([2.], dtype=torch.float64)
    """
    log_weights = checked(log_weights)
    size = len(log_weights)
    centred = log_weights - log_weights.mean(0)
    variance = (
        log_weights.var(0) if size > 1 else log_weights.new_full(centred.shape[1:], torch.nan)
    )
    fourth = centred.pow(4).mean(0)
    squared_error = (fourth - variance**2 * (size - 3) / max(size - 1, 1)) / size
    outside = log_weights.isneginf().any(0)
    error = squared_error.clamp_min(0.0).sqrt()
    return variance.masked_fill(outside, torch.inf), error.masked_fill(outside, torch.inf)


def log_weight_skewness(log_weights: LogWeights) -> PerDatum:
    """Skewness of each datum's log weights, over the draws that have a weight.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``: negative for a guide that is too wide, positive for one that is too narrow,
        near 0 for one that is shifted; 0 where the weights are equal.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.
    """
    log_weights = checked(log_weights)
    inside = ~log_weights.isneginf()
    count = inside.sum(0).clamp_min(1)
    kept = log_weights.masked_fill(~inside, 0.0)
    centred = (kept - kept.sum(0) / count).masked_fill(~inside, 0.0)
    spread = (centred.square().sum(0) / count).sqrt()
    third = centred.pow(3).sum(0) / count
    return torch.where(spread < CONSTANT, 0.0, third / spread.clamp_min(CONSTANT) ** 3)
