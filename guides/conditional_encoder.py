r"""Guide with an encoder that reads the observation and the label of its environment together.

.. math:: q(z \mid x, u) = q(z; \lambda), \qquad \lambda = \mathrm{encoder}(x, \mathrm{onehot}(u))

It has to learn the prior's part of the posterior from data, in every environment anew;
:class:`~pyrolvm.guides.ConditionalProduct` has that part built in.

References:
    Khemakhem, Kingma, Monti & Hyvärinen (2020), Variational Autoencoders and Nonlinear ICA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyro
import torch
from jaxtyping import Float, Int
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrolvm.amortization.family_guide import encoder_into
from pyrolvm.amortization.standardising_guide import StandardisingGuide
from pyrolvm.core import ConditionalPrior
from pyrolvm.families import Family, make_family
from pyrolvm.nn.environment_labels import checked_labels, label_table


class ConditionalEncoder(StandardisingGuide):
    """An encoder of x and one-hot u into a family of distributions.

    Before training every q(z | x, u) is close to a standard normal.

    Args:
        model: Any object with one latent site and a conditional prior.
        family: ``"diagonal"``, ``"full"``, ``"mixture"``, ``"flow"``, or a family.
        hidden: Widths of the encoder's hidden layers; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        **family_options: What the family takes besides.

    Raises:
        IncompatiblePairError: If the model has no conditional prior.
        UnknownNameError: If there is no such family, option or activation.
    """

    requires = (ConditionalPrior,)
    covariates: ClassVar[tuple[str, ...]] = ("u",)

    def __init__(
        self,
        model: Any,
        family: str | Family = "diagonal",
        hidden: Sequence[int] = (64, 64),
        activation: str = "leaky_relu",
        **family_options: int,
    ) -> None:
        super().__init__(model)
        self.site = self.only_site()
        self.num_environments: int = model.num_environments
        self.family = make_family(family, model.latent_dim, **family_options)
        width = model.obs_dim + self.num_environments
        self.encoder = encoder_into(self.family, width, hidden, activation)

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

    def distribution(
        self, x: Float[Tensor, "data obs_dim"], u: Int[Tensor, " data"] | None
    ) -> TorchDistribution:
        """Return q(z | x, u): batch shape ``(N,)``, event shape ``(latent_dim,)``.

        Raises:
            DataError: If x or u has the wrong shape, or u holds what is no label.
        """
        inputs = self.standardised(x)
        labels = checked_labels(u, self.num_environments, who=type(self).__name__, rows=len(x))
        one_hot = label_table(self.num_environments, inputs)[labels]
        return self.family.distribution(self.encoder(torch.cat([inputs, one_hot], -1)))
