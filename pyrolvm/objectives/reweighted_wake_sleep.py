r"""Reweighted wake-sleep: importance weights teach the model, and dreams or weights the guide.

With K draws :math:`z_k \sim q(\cdot \mid x)` for each datum and normalised weights
:math:`\tilde w_k \propto p(x, z_k) / q(z_k \mid x)`, ascent goes along

.. math:: \text{wake } \theta: \sum_k \tilde w_k \nabla \log p(x, z_k), \qquad
          \text{wake } \varphi: \sum_k \tilde w_k \nabla \log q(z_k \mid x), \qquad
          \text{sleep } \varphi: E_{p(x', z)} \nabla \log q(z \mid x')

Wake θ ascends the importance-weighted bound of log p(x); wake φ descends KL(p(z | x) ‖ q(z | x))
on the data, with a bias of O(1/K), and sleep φ the same divergence on dreams x′ of the model.

References:
    Bornschein & Bengio (2015), Reweighted Wake-Sleep.
    Le, Kosiorek, Siddharth, Teh & Wood (2019), Revisiting Reweighted Wake-Sleep.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import SettingError
from pyrolvm.objectives.iwae import log_mean_weight
from pyrolvm.objectives.particle_objective import ParticleObjective, Particles


class ReweightedWakeSleep(ParticleObjective):
    """The negative importance-weighted bound, and any mix of the three updates.

    Args:
        num_particles: Draws K of the guide for each datum and step.
        wake_theta: Whether the model learns.
        wake_phi: Weight of the guide's fit to the weighted draws; needs two draws.
        sleep_phi: Weight of the guide's fit to dreams, one for each datum of the batch.

    Raises:
        SettingError: If nothing learns, a weight is negative or not finite, or a single draw is to
            teach the guide.

    >>> ReweightedWakeSleep(num_particles=5)
    ReweightedWakeSleep(num_particles=5, wake_theta=True, wake_phi=0.5, sleep_phi=0.5)
    """

    def __init__(
        self,
        num_particles: int = 10,
        *,
        wake_theta: bool = True,
        wake_phi: float = 0.5,
        sleep_phi: float = 0.5,
    ) -> None:
        super().__init__(num_particles)
        for name, weight in {"wake_phi": wake_phi, "sleep_phi": sleep_phi}.items():
            if not 0 <= weight < float("inf"):
                raise SettingError(f"{name} should be a number from 0 on, but it is {weight!r}.")
        if not (wake_theta or wake_phi or sleep_phi):
            raise SettingError(
                "ReweightedWakeSleep has nothing to learn with wake_theta=False, wake_phi=0 and "
                "sleep_phi=0. Switch one of them on."
            )
        if wake_phi and self.num_particles == 1:
            raise SettingError(
                f"The weights of a datum's draws sum to 1, so that the single draw of "
                f"num_particles=1 teaches the guide nothing, but wake_phi is {wake_phi!r}. Take "
                "num_particles=2 or more, or wake_phi=0."
            )
        self.wake_theta = bool(wake_theta)
        self.wake_phi, self.sleep_phi = float(wake_phi), float(sleep_phi)

    def __repr__(self) -> str:
        return (
            f"ReweightedWakeSleep(num_particles={self.num_particles}, "
            f"wake_theta={self.wake_theta}, wake_phi={self.wake_phi}, sleep_phi={self.sleep_phi})"
        )

    def value(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return the negative importance-weighted bound of each datum in nats, shape ``(N,)``."""
        return -log_mean_weight(particles.log_weights)

    def surrogate(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return terms whose gradient is that of the wake phases, shape ``(N,)``."""
        weights = torch.softmax(particles.log_weights, 0)
        learns = self.wake_phi * particles.log_guide
        if self.wake_theta:
            learns = learns + particles.log_joint
        return -(weights * learns).sum(0)
