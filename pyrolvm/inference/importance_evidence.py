r"""The importance-weighted lower bound on the evidence.

.. math:: \log \frac{1}{K} \sum_k \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad z_k \sim q

References:
    Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Data, log_densities
from pyrolvm.diagnostics import iwae, iwae_standard_error
from pyrolvm.inference.evidence import Evidence

PARTICLES_TIMES_DATA = 2**20
"""Log weights that are held at once where there are many."""


def iwae_evidence(log_weights: Float[Tensor, "particle data"], guide: str) -> Evidence:
    """Importance-weighted lower bound from draws that were scored before.

    Args:
        log_weights: Of K draws of a guide, shape ``(K, N)``.
        guide: Name of the guide, for the record.
    """
    return Evidence(
        iwae(log_weights),
        iwae_standard_error(log_weights),
        f"iwae (K={len(log_weights)}, {guide})",
        is_bound=True,
    )


def many_particles_evidence(
    model: Any, guide: Any, data: Any, num_particles: int, name: str
) -> Evidence:
    """Importance-weighted lower bound from so many fresh draws that they are not held at once.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: What both take.
        num_particles: Number of draws K.
        name: Name of the guide, for the record.
    """
    rows = Data.of(data)
    size = max(1, PARTICLES_TIMES_DATA // rows.num_rows)
    first = second = torch.tensor(-torch.inf, dtype=torch.float64)
    for start in range(0, num_particles, size):
        number = min(size, num_particles - start)
        weights = log_densities(model, guide, rows, num_particles=number).log_weights.cpu()
        first = torch.logaddexp(first, weights.logsumexp(0))
        second = torch.logaddexp(second, (2 * weights).logsumexp(0))
    spread = ((second - 2 * first).exp() - 1 / num_particles).clamp_min(0.0)
    return Evidence(
        (first - math.log(num_particles)).to(rows.device),
        spread.sqrt().to(rows.device),
        f"iwae (K={num_particles}, {name})",
        is_bound=True,
    )
