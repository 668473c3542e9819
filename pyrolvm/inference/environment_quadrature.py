r"""The evidence of a model whose prior depends on the environment, by quadrature in each of them.

.. math:: p(x \mid u) = \int p(x \mid z) \, p(z \mid u) \, dz

Within one environment the prior is one Gaussian, and :mod:`pyrolvm.inference.quadrature` does the
rest.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyrolvm.core.capabilities import ConditionalJoint
from pyrolvm.core.pairing import offers
from pyrolvm.inference.quadrature import MOST_POINTS, quadrature_evidence
from pyrolvm.nn.normal_product import are_normals


class _InEnvironment:
    """A model as it is in one environment: a prior without arguments."""

    def __init__(self, model: ConditionalJoint, prior: TorchDistribution) -> None:
        self.latent_sites = model.latent_sites
        self.latent_dim, self.obs_dim = model.latent_dim, model.obs_dim
        self._prior, self.likelihood = prior, model.likelihood

    def prior(self) -> TorchDistribution:
        """Return p(z | u), event shape ``(latent_dim,)``."""
        return self._prior


def has_quadrature_in_environments(model: Any) -> bool:
    """Whether it can be tried: conditional prior and likelihood at hand, one or two latents."""
    return offers(model, ConditionalJoint) and model.latent_dim in MOST_POINTS


def quadrature_in_environments(
    model: ConditionalJoint, x: Float[Tensor, "data obs_dim"], u: Int[Tensor, " data"]
) -> tuple[Float[Tensor, " data"], Float[Tensor, " data"]] | None:
    """Integrate over z for each datum under the prior of its environment.

    Args:
        model: A model with one or two latents, in double precision.
        x: Observations, shape ``(N, obs_dim)``.
        u: Labels, shape ``(N,)``.

    Returns:
        log p(x | u) in nats and how much the last halving of the step changed it, shape ``(N,)``
        each; None where no affordable grid is fine enough, or a prior is no Gaussian.
    """
    value, change = torch.empty_like(x[:, 0]), torch.empty_like(x[:, 0])
    for label in u.unique():
        with torch.no_grad():
            prior = model.conditional_prior(label[None])
        if not are_normals(prior):
            return None
        alone = Normal(prior.mean[0], prior.stddev[0]).to_event(1)
        mine = u == label
        found = quadrature_evidence(_InEnvironment(model, alone), x[mine])
        if found is None:
            return None
        value[mine], change[mine] = found
    return value, change
