r"""Total variation distance between a guide and the posterior, from importance weights.

.. math:: TV = \tfrac12 \int |q(z \mid x) - p(z \mid x)| \, dz
             = E_q\Big[\Big(1 - \frac{w}{p(x)}\Big)_+\Big], \qquad w = \frac{p(x, z)}{q(z \mid x)}

The integrand lies between 0 and 1, so that the estimate is unbiased with a standard error below
:math:`1 / (2 \sqrt K)`, also where the guide misses modes: draws that the posterior does not want
count in full. It is the distance in which Pareek & Risteski (2021), The Effects of Invertibility
on the Representational Complexity of Encoders in Variational Autoencoders, state their results.
"""

from __future__ import annotations

import math

import torch

from pyrolvm.diagnostics.log_weights import LogWeights, PerDatum, checked, checked_evidence


def total_variation(log_weights: LogWeights, log_evidence: PerDatum) -> tuple[PerDatum, PerDatum]:
    """Total variation distance of each datum, with evidence from outside.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.
        log_evidence: log p(x) in nats, shape ``(N,)``, obtained **without** these draws: exact,
            enumerated, quadrature.

    Returns:
        The value, between 0 (equal) and 1 (disjoint), and its standard error, shape ``(N,)`` each.

    Raises:
        DataError: If a shape does not fit, a weight is NaN or +inf, or an evidence is not finite.

    Examples:
        >>> total_variation(torch.tensor([[0.0], [-torch.inf]]), torch.tensor([0.0]))[0]
        tensor([0.5000], dtype=torch.float64)
    """
    log_weights = checked(log_weights)
    log_evidence = checked_evidence(log_weights, log_evidence, "distance to the posterior")
    lost = -torch.expm1((log_weights - log_evidence).clamp_max(0.0))
    error = lost.std(0) / math.sqrt(len(lost)) if len(lost) > 1 else torch.full_like(lost[0], 0.5)
    return lost.mean(0), error
