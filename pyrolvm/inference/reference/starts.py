r"""Where the chains of a reference start: wider apart than the posterior.

.. math:: u_c \sim p(u) \, p(x \mid u)^\beta, \quad \beta \ll 1, \qquad
          u_c = m + 2 (u_q - m), \quad u_q \sim q

Half of the chains start at draws of the prior, chosen by a flattened likelihood, half at draws of
the guide, moved away from their mean: a mode that only one of the two knows shows in R-hat.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyrolvm.core.latent_space import Points
from pyrolvm.inference.held_rows import Space

POOL = 256
"""Draws of the prior among which starts are chosen."""
INFLATION = 2.0
SPREAD = 64
"""Draws of the pool that a flattened likelihood shall leave effective."""


def overdispersed_starts(
    space: Space, num_chains: int, guide_points: Points | None = None
) -> Points:
    """Starts of the chains, shape ``(chain, N, S)``.

    Args:
        space: Of the chosen rows.
        num_chains: Number of chains.
        guide_points: Draws of the guide, ``(K, N, S)``; None starts all chains from the prior.
    """
    starts = flattened_draws(space, num_chains)
    if guide_points is not None and len(guide_points) >= num_chains:
        centre = guide_points.mean(0)
        wide = centre + INFLATION * (guide_points[:num_chains] - centre)
        usable = space.log_joint(wide).isfinite()[..., None]
        odd = torch.arange(num_chains, device=wide.device) % 2 == 1
        starts = torch.where(usable & odd[:, None, None], wide, starts)
    return starts


def flattened_draws(space: Space, number: int) -> Points:
    """Draws of prior times flattened likelihood, without replacement, ``(number, N, S)``.

    The power is the largest of 1, 1/2, 1/4, … that leaves 64 of 256 prior draws effective.

    Args:
        space: Of the chosen rows.
        number: How many draws.
    """
    pool = space.prior_points(max(POOL, number))
    prior, likelihood = space.log_terms(pool)
    usable = likelihood.isfinite() & prior.isfinite()
    likelihood = torch.where(usable, likelihood, -torch.inf)
    weights = _flattened(likelihood)
    noise = -torch.empty_like(weights).exponential_().log()
    best = (weights + noise).topk(number, 0).indices
    return torch.take_along_dim(pool, best[..., None], 0)


def _flattened(log_likelihood: Tensor) -> Tensor:
    """Log weights with enough effective draws, ``(K, N)``."""
    tempered = torch.where(log_likelihood == -torch.inf, -torch.inf, 0.0)
    for power in 2.0 ** torch.arange(-60.0, 1.0, dtype=torch.float64):
        candidate = power.to(log_likelihood) * log_likelihood
        wide = _effective(candidate) >= SPREAD
        tempered = torch.where(wide, candidate, tempered)
    return tempered


def _effective(log_weights: Tensor) -> Tensor:
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()
