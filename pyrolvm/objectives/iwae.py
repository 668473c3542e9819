r"""Importance-weighted bound: the log of a mean of importance weights.

.. math:: \mathcal L_K(x) = E \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)}
          \le \log p(x)

It is the ELBO at K = 1, rises with K, and is the limit α → 0 of the coupled bound. With
:math:`\tilde w_k` the normalised weights and :math:`q_d` the guide's sites that cannot be
reparameterised, its gradient is the mean of

.. math:: \sum_k \tilde w_k \nabla \log w_k
          + \Big(\log \frac1K \sum_j w_j\Big) \sum_k \nabla \log q_d(z_k)

References:
    Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from pyrolvm.objectives.particle_objective import ParticleObjective, Particles


class IWAE(ParticleObjective):
    """The negative importance-weighted bound.

    The gradient is unbiased for guides of any kind, but without a baseline the second term is very
    noisy: for discrete sites :class:`VIMCO` has the same mean and far less noise.

    Args:
        num_particles: Draws K of the guide for each datum and step.

    Raises:
        SettingError: If there is less than one draw.

    >>> IWAE(num_particles=5)
    IWAE(num_particles=5)
    """

    holds_draws = False

    def __init__(self, num_particles: int = 10) -> None:
        super().__init__(num_particles)

    def value(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return the negative bound of each datum in nats, shape ``(N,)``."""
        return -log_mean_weight(particles.log_weights)

    def surrogate(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return terms whose gradient is that of the negative bound, shape ``(N,)``."""
        bound = log_mean_weight(particles.log_joint - particles.log_guide)
        return -(bound + bound.detach() * particles.log_score.sum(0))


def log_mean_weight(log_weights: Float[Tensor, "particle data"]) -> Float[Tensor, " data"]:
    """Return the log of the mean of K weights of each datum, shape ``(N,)``."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))
