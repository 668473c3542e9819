r"""The guide of a model without latent sites: there is nothing to infer.

.. math:: x = f(z), \qquad q(z \mid x) = \delta\bigl(z - f^{-1}(x)\bigr)

A noiseless model scores x under the law of f(z) and samples no latent. Its evidence lower bound is
log p(x) itself, so that ``pyro.infer.SVI`` with this guide is maximum likelihood.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Guide, HasCode


class ExactCode(Guide):
    """Samples nothing; it holds the code of each observation.

    Args:
        model: A model with ``encode(x)``, ``decode(z)`` and ``log_evidence(x)``.

    Raises:
        IncompatiblePairError: If the model has no exact code.
    """

    requires = (HasCode,)
    is_exact = True

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> None:
        """Check observations of shape ``(N, obs_dim)``; there is nothing to sample."""
        self.observations(x, self.model.obs_dim)

    def code(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data latent_dim"]:
        """Return the latent code of each observation, shape ``(N, latent_dim)``."""
        return self.model.encode(self.observations(x, self.model.obs_dim))

    def log_evidence(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, shape ``(N,)``."""
        return self.model.log_evidence(self.observations(x, self.model.obs_dim))
