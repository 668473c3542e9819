r"""Coupled bound: the model and the guide meet at the geometric mean of their joint distributions.

.. math:: \mathcal L_\alpha(x) = \frac{1}{1 - \alpha} \log E_{q(z \mid x)}
          \Big(\frac{p(x, z)}{q(z \mid x)}\Big)^{1 - \alpha}

At α = ½ it is :math:`2 \log \sum_z \sqrt{p(x, z) \, q(z \mid x)}`, which bidirectional Helmholtz
machines maximise: log p(x) less twice the Bhattacharyya distance between guide and posterior. It
is a Rényi bound, between the ELBO (α → 1) and log p(x) (α → 0).

References:
    Bornschein, Shabanian, Fischer & Bengio (2016), Bidirectional Helmholtz Machines.
    Li & Turner (2016), Rényi Divergence Variational Inference.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import SettingError
from pyrolvm.objectives.particle_objective import ParticleObjective, Particles


class CoupledELBO(ParticleObjective):
    r"""The bound's K-sample estimate, with a local gradient at each site and none through draws.

    With :math:`\tilde w_k \propto w_k^{1 - \alpha}` normalised over the draws of a datum, the
    model follows :math:`\sum_k \tilde w_k \nabla \log p(x, z_k)` and the guide
    :math:`\tfrac{\alpha}{1 - \alpha} \sum_k (\tilde w_k - \tfrac1K) \nabla \log q(z_k \mid x)`.
    The 1/K is a control variate: it leaves the mean as it is and cuts the noise. At finite K the
    bound is too low, by O(1/K), and its gradient biased by as much.

    Args:
        num_particles: Draws K of the guide for each datum and step, at least 2.
        alpha: Order α of the bound, above 0 and below 1.
        control_variate: Whether the guide's weights are centred by 1/K.

    Raises:
        SettingError: If there are fewer than two draws, or α is not between 0 and 1.

    >>> from pyrolvm import fit, guides, models
    >>> model = models.SigmoidBeliefNetwork(layers=(3, 2), obs_dim=5)
    >>> x = model(size=20)
    >>> loss = CoupledELBO(num_particles=5)
    >>> fitted = fit(model, guides.HelmholtzCoupled(model), x, steps=3, loss=loss, progress=False)
    >>> fitted.steps
    3
    """

    fewest = 2
    why_fewest = "The weights of a datum's draws sum to 1, so that a single draw teaches nothing."

    def __init__(
        self, num_particles: int = 10, *, alpha: float = 0.5, control_variate: bool = True
    ) -> None:
        super().__init__(num_particles)
        if not 0 < alpha < 1:
            raise SettingError(
                f"CoupledELBO needs an alpha between 0 and 1, both excluded, but it is {alpha!r}. "
                "The limit at 1 is the ELBO (LeaveOneOutELBO), that at 0 the importance-weighted "
                "bound (IWAE, VIMCO)."
            )
        self.alpha, self.control_variate = float(alpha), bool(control_variate)

    def __repr__(self) -> str:
        return (
            f"CoupledELBO(num_particles={self.num_particles}, alpha={self.alpha}, "
            f"control_variate={self.control_variate})"
        )

    def value(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return the negative bound of each datum in nats, shape ``(N,)``."""
        power = (1 - self.alpha) * particles.log_weights
        return -(power.logsumexp(0) - math.log(self.num_particles)) / (1 - self.alpha)

    def surrogate(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return terms whose gradient is that of the negative bound, shape ``(N,)``."""
        weights = torch.softmax((1 - self.alpha) * particles.log_weights, 0)
        centred = weights - 1 / self.num_particles if self.control_variate else weights
        odds = self.alpha / (1 - self.alpha)
        return -(weights * particles.log_joint + odds * centred * particles.log_guide).sum(0)
