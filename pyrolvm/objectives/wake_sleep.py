r"""Wake-sleep: the model learns from what the guide sees, the guide from what the model dreams.

.. math:: \text{wake } \theta: \nabla \log p(x, z), \; z \sim q(\cdot \mid x), \qquad
          \text{sleep } \varphi: \nabla \log q(z \mid x'), \; (x', z) \sim p

The wake phase ascends the ELBO. The sleep phase descends KL(p(z | x′) ‖ q(z | x′)) on dreams, the
other divergence on other data, so that the two do not ascend any one bound together.

References:
    Hinton, Dayan, Frey & Neal (1995), The Wake-Sleep Algorithm for Unsupervised Neural Networks.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pyrolvm.objectives.particle_objective import ParticleObjective, Particles


class WakeSleep(ParticleObjective):
    """The negative ELBO, with the updates of both phases.

    Args:
        num_particles: Draws of the guide for each datum and step in the wake phase; in the sleep
            phase there is one dream for each datum.

    Raises:
        SettingError: If there is less than one draw.

    >>> WakeSleep()
    WakeSleep(num_particles=1)
    """

    sleep_phi = 1.0

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(num_particles)

    def value(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return the negative ELBO of each datum in nats, shape ``(N,)``."""
        return -particles.log_weights.mean(0)

    def surrogate(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return terms whose gradient is that of the wake phase, shape ``(N,)``."""
        return -particles.log_joint.mean(0)
