r"""How far the end of a chain is from the posterior, whatever its path.

.. math:: KL(q_T \| p) = \log p(x) + E_{z \sim q_T}[\log q_T(z \mid x) - \log p(x, z)]

The gap of a guide on an extended space is that of whole chains; this is the part that a user of
its draws meets. The density :math:`q_T` is estimated by a mixture of last kernels over chains of
their own, so that the estimate leans to smaller values; it is meant for few dimensions.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import evaluating
from pyrolvm.core.randomness import own_randomness

MOST_DIMS = 4
NUM_DRAWS = 200
NUM_CHAINS = 1000


@runtime_checkable
class ChainGuide(Protocol):
    """A guide whose draws are the ends of chains, with an estimate of their density."""

    def run(self, x: Tensor, num_chains: int) -> Any:
        """Run chains; the result has their ``end``, shape ``(S, N, latent_dim)``."""
        ...

    def marginal_log_prob(self, x: Tensor, z: Tensor, num_chains: int) -> Tensor:
        """Return an estimate of the log density of a chain's end, in nats."""
        ...


def marginal_gap(
    model: Any,
    guide: ChainGuide,
    x: Float[Tensor, "data obs_dim"],
    log_evidence: Float[Tensor, " data"],
    *,
    num_draws: int = NUM_DRAWS,
    num_chains: int = NUM_CHAINS,
    seed: int = 0,
) -> Float[Tensor, " data"]:
    """Estimate KL(q_T ‖ p) of each datum.

    Args:
        model: A model with ``prior()`` and ``likelihood(z)``.
        guide: A guide that runs chains.
        x: Observations, shape ``(N, obs_dim)``.
        log_evidence: log p(x) in nats, shape ``(N,)``, from elsewhere.
        num_draws: Ends at which the densities are compared.
        num_chains: Chains that make up the density, apart from those.
        seed: Of both.

    Returns:
        Nats, shape ``(N,)``.
    """
    with evaluating(model, guide), own_randomness(seed), torch.no_grad():
        x = x.double()
        ends = guide.run(x, num_draws).end.detach()
        log_joint = model.prior().log_prob(ends) + model.likelihood(ends).log_prob(x)
        density = guide.marginal_log_prob(x, ends, num_chains)
    return log_evidence + (density - log_joint).mean(0)
