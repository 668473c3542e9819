r"""Lower bounds on the log evidence, per datum, with their standard errors.

.. math:: \mathrm{ELBO} = E_q[\log w] \;\le\;
          \mathrm{IWAE}_K = E\Big[\log \tfrac1K \sum_k w_k\Big] \;\le\; \log p(x)

Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders.
"""

from __future__ import annotations

import math

import torch

from pyrolvm.diagnostics.log_weights import LogWeights, PerDatum, checked, log_mean_exp


def elbo(log_weights: LogWeights) -> PerDatum:
    """Evidence lower bound of each datum: the mean log weight.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``, in nats; -inf where a draw fell outside the posterior's support.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.

    Examples:
        >>> elbo(torch.tensor([[0.0, -1.0], [0.0, -3.0]]))
        tensor([ 0., -2.], dtype=torch.float64)
    """
    return checked(log_weights).mean(0)


def elbo_standard_error(log_weights: LogWeights) -> PerDatum:
    """Standard error of :func:`elbo`, from the spread of the log weights.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``, in nats; infinite for one particle and where a weight is 0.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.
    """
    log_weights = checked(log_weights)
    known = torch.isfinite(log_weights).all(0)
    return torch.where(known, _standard_error(log_weights), math.inf)


def iwae(log_weights: LogWeights) -> PerDatum:
    r"""Importance-weighted bound of each datum: the log of the mean weight.

    Its expectation grows with K towards the log evidence, so K belongs to the figure.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``, in nats; -inf where every weight is 0.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.

    Examples:
        >>> iwae(torch.tensor([[0.0], [0.0], [-torch.inf], [-torch.inf]]))
        tensor([-0.6931], dtype=torch.float64)
    """
    return log_mean_exp(checked(log_weights))


def iwae_standard_error(log_weights: LogWeights) -> PerDatum:
    r"""Standard error of :func:`iwae` by the delta method: sd(w) / (mean(w) √K).

    The delta method trusts the sample variance of the weights: where
    :func:`~pyrolvm.diagnostics.importance.pareto_khat` exceeds its threshold that variance is not
    finite, and the true error is larger than what comes out here.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``, in nats; infinite for one particle and where every weight is 0.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.
    """
    log_weights = checked(log_weights)
    log_mean = log_mean_exp(log_weights)
    known = torch.isfinite(log_mean)
    relative = (log_weights - torch.where(known, log_mean, 0.0)).exp()
    return torch.where(known, _standard_error(relative), math.inf)


def _standard_error(values: LogWeights) -> PerDatum:
    size = values.shape[0]
    if size == 1:
        return values.new_full(values.shape[1:], math.inf)
    return values.std(0) / math.sqrt(size)
