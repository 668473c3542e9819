r"""Ranks of the truth among draws of a guide: uniform where the guide is the posterior.

.. math:: r_i = \#\{k : f(z_{ik}) < f(z_i)\} \in \{0, \dots, L\}, \qquad
          z_i \sim p(z),\; x_i \sim p(x \mid z_i),\; z_{ik} \sim q(z \mid x_i)

f is a coordinate, log p(x, z), log q(z | x) (the rank then is the highest-density level at which
the truth lies) or the distance to a random point (TARP). Ties are broken at random, so that ranks
of discrete quantities are uniform too.

References:
    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), Validating Bayesian Inference Algorithms
    with Simulation-Based Calibration.
    Lemos, Coogan, Hezaveh & Perreault-Levasseur (2023), Sampling-Based Accuracy Testing of
    Posterior Estimators for General Inference.
    Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman & Vehtari (2023), Simulation-Based
    Calibration Checking for Bayesian Computation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

NATS = 1e-8
"""Difference of log densities that is none, of discrete latents for example: rounding."""


def rank_statistics(
    truth: Float[Tensor, ...], draws: Float[Tensor, "draw ..."], tolerance: float = 0.0
) -> Int[Tensor, ...]:
    """Number of draws below the truth; among equal ones its place is drawn at random.

    Args:
        truth: Values at the latents that made the data, any shape.
        draws: Values at L draws of the guide, one more dimension in front.
        tolerance: Difference up to which values count as equal.

    Returns:
        Whole numbers from 0 to L, the shape of ``truth``.
    """
    below = (draws < truth - tolerance).sum(0)
    ties = (draws <= truth + tolerance).sum(0) - below
    place = torch.rand(truth.shape, dtype=torch.float64, device=truth.device)
    return below + (place * (ties + 1)).floor().long()


def density_levels(
    truth: Float[Tensor, " datum"], draws: Float[Tensor, "draw datum"]
) -> Int[Tensor, " datum"]:
    """Number of draws at which the guide is denser than at the truth.

    Divided by L + 1 it is the level of the smallest highest-density region that holds the truth.

    Args:
        truth: log q(z | x) at the truth, shape ``(N,)``.
        draws: At L draws, ``(L, N)``.
    """
    return rank_statistics(-truth, -draws, NATS)


def reference_distances(
    truth: Float[Tensor, "datum coordinate"], draws: Float[Tensor, "draw datum coordinate"]
) -> Int[Tensor, " datum"]:
    """Number of draws that are nearer to a random point than the truth is.

    Each datum's L + 1 points (the truth is one of them, so that none is singled out) are
    standardised by coordinate; the reference point is standard Gaussian there.

    Args:
        truth: Shape ``(N, S)``.
        draws: Shape ``(L, N, S)``.
    """
    points = torch.cat([truth[None], draws]).double()
    spread = points.std(0)
    standard = (points - points.mean(0)) / torch.where(spread > 0, spread, 1.0)
    distance = (standard - torch.randn_like(standard[0])).norm(dim=-1)
    return rank_statistics(distance[0], distance[1:])
