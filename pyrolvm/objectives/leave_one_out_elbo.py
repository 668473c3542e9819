r"""ELBO with the other draws of a datum as baseline of the score function.

.. math:: \nabla E_q[f] \approx \frac1K \sum_k \big(f_k - \bar f_{-k}\big)\, \nabla \log q_d(z_k)
          + \nabla f_k, \qquad f_k = \log p(x, z_k) - \log q(z_k \mid x)

:math:`\bar f_{-k}` is the mean of f over the other K − 1 draws, and :math:`q_d` the guide's sites
that cannot be reparameterised; through the draws of the others the gradient passes. It is the
limit α → 1 of the coupled bound, up to the factor K / (K − 1) that makes it unbiased.

References:
    Kool, van Hoof & Welling (2019), Buy 4 REINFORCE Samples, Get a Baseline for Free!
    Mnih & Gregor (2014), Neural Variational Inference and Learning in Belief Networks.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pyrolvm.objectives.particle_objective import ParticleObjective, Particles


class LeaveOneOutELBO(ParticleObjective):
    """The negative ELBO, with an unbiased gradient for guides of any kind.

    Args:
        num_particles: Draws K of the guide for each datum and step, at least 2.

    Raises:
        SettingError: If there are fewer than two draws.

    >>> LeaveOneOutELBO(num_particles=5)
    LeaveOneOutELBO(num_particles=5)
    """

    fewest = 2
    why_fewest = "A draw is compared with the others of its datum."
    holds_draws = False

    def __init__(self, num_particles: int = 10) -> None:
        super().__init__(num_particles)

    def value(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return the negative ELBO of each datum in nats, shape ``(N,)``."""
        return -particles.log_weights.mean(0)

    def surrogate(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return terms whose gradient is that of the negative ELBO, shape ``(N,)``."""
        weights = particles.log_weights
        signal = (weights - weights.mean(0)) * (self.num_particles / (self.num_particles - 1))
        entropy = particles.log_guide - particles.log_score  # a score's own mean is 0: left out
        return -(signal * particles.log_score + particles.log_joint - entropy).mean(0)
