r"""Guide of the posterior's own form under a conditional prior: evidence of x times prior of u.

.. math:: q(z \mid x, u) \propto N(z; m(x), \operatorname{diag} s(x)^2) \, p(z \mid u)

For p(z | u) = N(μ_u, diag σ_u²) that is a Gaussian of precision 1/s² + 1/σ_u², whose mean weighs m
and μ_u by their precisions. The network reads x alone: what u says about z comes in exactly, and
all environments share what x says, as they do in the posterior p(z | x, u) ∝ p(x | z) p(z | u).

References:
    Khemakhem, Kingma, Monti & Hyvärinen (2020), Variational Autoencoders and Nonlinear ICA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyro
import torch
from jaxtyping import Float, Int
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.amortization.standardising_guide import StandardisingGuide
from pyrolvm.core import ConditionalPrior, IncompatiblePairError
from pyrolvm.nn import mlp
from pyrolvm.nn.environment_labels import checked_labels
from pyrolvm.nn.gaussian_head import INITIAL_SHRINKAGE
from pyrolvm.nn.normal_product import are_normals, product_of_normals


class ConditionalProduct(StandardisingGuide):
    """Independent normals: an encoder's, which reads x alone, times the model's prior given u.

    Before training the encoder says as much about z as a standard normal prior would. The prior is
    read live: where it learns, the guide follows.

    Args:
        model: Any object with one latent site, whose ``conditional_prior(u)`` are independent
            normals.
        hidden: Widths of the encoder's hidden layers; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    Raises:
        IncompatiblePairError: If the model has no conditional prior, or one of another form.
        UnknownNameError: If there is no such activation.
    """

    requires = (ConditionalPrior,)
    covariates: ClassVar[tuple[str, ...]] = ("u",)

    def __init__(
        self, model: Any, hidden: Sequence[int] = (64, 64), activation: str = "leaky_relu"
    ) -> None:
        super().__init__(model)
        self.site = self.only_site()
        self._require_normals()
        self.encoder = mlp(model.obs_dim, tuple(hidden), 2 * model.latent_dim, activation)
        with torch.no_grad():
            last = self.encoder[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(INITIAL_SHRINKAGE)
            last.bias.zero_()

    def forward(
        self,
        x: Float[Tensor, "data obs_dim"] | None = None,
        u: Int[Tensor, " data"] | None = None,
        *,
        size: int | None = None,
    ) -> Tensor:
        """Sample the latent site given observations ``(N, obs_dim)`` and labels ``(N,)``."""
        q = self.distribution(self.observations(x, self.obs_dim), u)
        with pyro.plate("data", q.batch_shape[-1], dim=-1):
            return pyro.sample(self.site, q)

    def evidence(self, x: Float[Tensor, "data obs_dim"]) -> TorchDistribution:
        """Return N(m(x), s(x)²), what x says about z: batch ``(N,)``, event ``(latent_dim,)``."""
        loc, log_precision = self.encoder(self.standardised(x)).chunk(2, -1)
        return Normal(loc, (-0.5 * log_precision).exp()).to_event(1)

    def distribution(
        self, x: Float[Tensor, "data obs_dim"], u: Int[Tensor, " data"] | None
    ) -> TorchDistribution:
        """Return q(z | x, u): batch shape ``(N,)``, event shape ``(latent_dim,)``.

        Raises:
            DataError: If x or u has the wrong shape, or u holds what is no label.
        """
        count = self.model.num_environments
        labels = checked_labels(u, count, who=type(self).__name__, rows=len(x))
        return product_of_normals(self.evidence(x), self.model.conditional_prior(labels))

    def _require_normals(self) -> None:
        prior = self.model.conditional_prior(torch.arange(self.model.num_environments))
        if not are_normals(prior):
            raise IncompatiblePairError(
                "ConditionalProduct multiplies independent normals, but the prior of "
                f"{type(self.model).__name__} is a {type(prior).__name__}. "
                "Use ConditionalEncoder, which takes any."
            )
