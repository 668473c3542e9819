r"""Log importance weights of a guide: their shape, and the check that they can be used.

.. math:: \log w_{kn} = \log p(x_n, z_{kn}) - \log q(z_{kn} \mid x_n),
          \qquad z_{kn} \sim q(\cdot \mid x_n)

Particles come first, data second: a guide is judged datum by datum, never by one figure for a
batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import DataError

LogWeights = Float[Tensor, "particle data"]
"""Log importance weights in nats, shape ``(K, N)``: K particles, N data."""

PerDatum = Float[Tensor, "data"]
"""One number a datum, shape ``(N,)``, in double precision."""


def checked(log_weights: LogWeights) -> LogWeights:
    """Log weights in double precision, refused where no diagnostic could make sense of them.

    Minus infinity is a legitimate value: the guide drew outside the support of the posterior.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        The same numbers, detached, shape ``(K, N)``, float64.

    Raises:
        DataError: If the shape is not ``(K, N)`` with both at least 1, or a weight is NaN or +inf.
    """
    if log_weights.ndim != 2 or log_weights.numel() == 0:
        raise DataError(
            "Log weights need the shape (K, N), particles first and at least one of each, but "
            f"have {tuple(log_weights.shape)}. For a single datum use log_weights[:, None]."
        )
    log_weights = log_weights.detach().double()
    unusable = log_weights.isnan() | log_weights.isposinf()
    if unusable.any():
        particle, datum = (int(index) for index in unusable.nonzero()[0])
        raise DataError(
            f"{int(unusable.sum())} of {log_weights.numel()} log weights cannot be used; the "
            f"first is {log_weights[particle, datum].item()}, particle {particle}, datum {datum}. "
            "Only finite values and -inf (a draw outside the support) are allowed: look for NaN "
            "in the data, and for a guide whose scale has collapsed to 0."
        )
    return log_weights


def checked_evidence(log_weights: LogWeights, log_evidence: PerDatum, what: str) -> PerDatum:
    """Return an evidence after checking that it has one finite value for each datum.

    Args:
        log_weights: Shape ``(K, N)``, checked.
        log_evidence: log p(x) in nats, from elsewhere.
        what: What is measured against it, for the message.

    Returns:
        The same numbers, detached, shape ``(N,)``, float64.

    Raises:
        DataError: If the shape is another one, or a value is not finite.
    """
    if log_evidence.shape != log_weights.shape[1:] or not log_evidence.isfinite().all():
        raise DataError(
            f"The {what} needs one finite log evidence a datum, shape "
            f"{tuple(log_weights.shape[1:])}, but got shape {tuple(log_evidence.shape)} with "
            f"{int((~log_evidence.isfinite()).sum())} values that are not finite."
        )
    return log_evidence.detach().double()


def log_mean_exp(log_weights: LogWeights) -> PerDatum:
    """Logarithm of the mean weight over particles, stable in log space.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``, in nats; -inf where every weight is 0.
    """
    log_size = torch.tensor(float(log_weights.shape[0]), dtype=torch.float64).log()
    return log_weights.logsumexp(0) - log_size.to(log_weights.device)
