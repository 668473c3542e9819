r"""VIMCO: the importance-weighted bound, with the other draws of a datum as baseline.

.. math:: \sum_k \tilde w_k \nabla \log w_k + \sum_k \Big(\log \frac1K \sum_j w_j
          - \log \frac1K \big(\hat w_{-k} + \sum_{j \ne k} w_j\big)\Big) \nabla \log q_d(z_k)

:math:`\hat w_{-k}` is the geometric mean of the other K − 1 weights, so that the bracket says how
much better the bound is for the draw k; :math:`q_d` are the guide's sites that cannot be
reparameterised, and through the draws of the others the gradient passes.

References:
    Mnih & Rezende (2016), Variational Inference for Monte Carlo Objectives.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.objectives.iwae import log_mean_weight
from pyrolvm.objectives.particle_objective import ParticleObjective, Particles


class VIMCO(ParticleObjective):
    """The negative importance-weighted bound, with an unbiased gradient for discrete guides.

    Args:
        num_particles: Draws K of the guide for each datum and step, at least 2.

    Raises:
        SettingError: If there are fewer than two draws.

    >>> VIMCO(num_particles=5)
    VIMCO(num_particles=5)
    """

    fewest = 2
    why_fewest = "A draw is compared with the others of its datum."
    holds_draws = False

    def __init__(self, num_particles: int = 10) -> None:
        super().__init__(num_particles)

    def value(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return the negative bound of each datum in nats, shape ``(N,)``."""
        return -log_mean_weight(particles.log_weights)

    def surrogate(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return terms whose gradient is that of the negative bound, shape ``(N,)``."""
        bound = log_mean_weight(particles.log_joint - particles.log_guide)
        signal = bound.detach() - leave_one_out_bounds(particles.log_weights)
        return -(bound + (signal * particles.log_score).sum(0))


def leave_one_out_bounds(
    log_weights: Float[Tensor, "particle data"],
) -> Float[Tensor, "particle data"]:
    """Return the bound that the other draws foretell: each weight in turn by their mean.

    Args:
        log_weights: Of K ≥ 2 draws for each datum, in nats, shape ``(K, N)``.

    Returns:
        Nats, shape ``(K, N)``; row k does not depend on the weight k.
    """
    num_particles = len(log_weights)
    others = (log_weights.sum(0) - log_weights) / (num_particles - 1)
    is_own = torch.eye(num_particles, dtype=torch.bool, device=log_weights.device)[..., None]
    return log_mean_weight(torch.where(is_own, others[None], log_weights[:, None]))
