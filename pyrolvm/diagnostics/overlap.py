r"""How much of the posterior a guide overlaps: the squared Bhattacharyya coefficient.

.. math:: BC^2 = \Big( \int \sqrt{p(z \mid x) \, q(z \mid x)} \, dz \Big)^2
               = \frac{\big(E_q \sqrt{w}\big)^2}{p(x)}, \qquad w = \frac{p(x, z)}{q(z \mid x)}

It lies between 0 (disjoint) and 1 (equal), and −log BC² is the gap that a coupled model such as p*
of Bornschein et al. (2016), Bidirectional Helmholtz Machines, pays. Everything rests on where p(x)
comes from: weights drawn from the guide cannot know of a mode that the guide never visits.
"""

from __future__ import annotations

import torch

from pyrolvm.diagnostics.bounds import iwae_standard_error
from pyrolvm.diagnostics.log_weights import (
    LogWeights,
    PerDatum,
    checked,
    checked_evidence,
    log_mean_exp,
)


def bhattacharyya_squared(
    log_weights: LogWeights, log_evidence: PerDatum
) -> tuple[PerDatum, PerDatum]:
    r"""Squared Bhattacharyya coefficient between guide and posterior, with evidence from outside.

    The square of a mean is biased upwards, by (1 − BC²)/K.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.
        log_evidence: log p(x) in nats, shape ``(N,)``, obtained **without** these draws: exact,
            enumerated, AIS.

    Returns:
        The value, between 0 and 1 up to its error, and its standard error (delta method), shape
        ``(N,)`` each. The error of the evidence is not in it.

    Raises:
        DataError: If a shape does not fit, a weight is NaN or +inf, or an evidence is not finite.

    References:
        Bhattacharyya (1943), On a Measure of Divergence between Two Statistical Populations.
    """
    log_weights = checked(log_weights)
    log_evidence = checked_evidence(log_weights, log_evidence, "overlap with the posterior")
    value = torch.exp(2 * log_mean_exp(log_weights / 2) - log_evidence)
    error = 2 * value * iwae_standard_error(log_weights / 2)
    return value, torch.where(value == 0.0, torch.inf, error)


def sqrt_weight_ess(log_weights: LogWeights) -> PerDatum:
    r"""Overlap from the weights alone, :math:`(\overline{\sqrt w})^2 / \overline w`.

    The self-normalised stand-in for :func:`bhattacharyya_squared`, as the relative effective
    sample size is for a variance. **It is blind to missed modes**: a guide that covers half the
    posterior perfectly has equal weights, and scores 1.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``, between 1/K and 1; 0 where every weight is 0.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.

    Examples:
        >>> sqrt_weight_ess(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]]))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    log_weights = checked(log_weights)
    ratio = torch.exp(2 * log_mean_exp(log_weights / 2) - log_mean_exp(log_weights))
    return torch.nan_to_num(ratio, nan=0.0)


def sqrt_weight_ess_standard_error(log_weights: LogWeights) -> PerDatum:
    """Standard error of :func:`sqrt_weight_ess` (delta method), shape ``(N,)``.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``; infinite where every weight is 0, or there is a single draw.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.
    """
    value, log_weights = sqrt_weight_ess(log_weights), checked(log_weights)
    size = len(log_weights)
    if size == 1:
        return torch.full_like(value, torch.inf)
    root = torch.exp(log_weights / 2 - log_mean_exp(log_weights / 2))
    whole = torch.exp(log_weights - log_mean_exp(log_weights))
    error = value * (2 * root - whole).std(0) / size**0.5
    return torch.nan_to_num(error, nan=torch.inf)
