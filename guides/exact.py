r"""The exact posterior of a model that knows it in closed form.

.. math:: q(z \mid x) = p(z \mid x)

Every particle of this guide has the same importance weight, p(x): its gap is zero.
"""

from __future__ import annotations

from typing import Any

import pyro
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrolvm.core import Guide, HasPosterior


class Exact(Guide):
    """Samples the model's own ``posterior(x)``; it has no parameters, and follows the model's.

    Args:
        model: A model with ``posterior(x)`` and ``log_evidence(x)``.

    Raises:
        IncompatiblePairError: If the model has no closed-form posterior.
    """

    requires = (HasPosterior,)
    is_exact = True

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.site = self.only_site()

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample the latent site given observations of shape ``(N, obs_dim)``."""
        posterior = self.posterior(self.observations(x))
        with pyro.plate("data", posterior.batch_shape[-1], dim=-1):
            return pyro.sample(self.site, posterior)

    def posterior(self, x: Float[Tensor, "data obs_dim"]) -> TorchDistribution:
        """Return p(z | x): batch shape ``(N,)``, event shape ``(latent_dim,)``."""
        return self.model.posterior(self.observations(x))

    def log_evidence(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, shape ``(N,)``."""
        return self.model.log_evidence(self.observations(x))
