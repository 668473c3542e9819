r"""Independent units of zeros and ones, the mean-field guide of binary latents.

.. math:: q(z; \lambda) = \prod_d \pi_d^{z_d} (1 - \pi_d)^{1 - z_d},
          \qquad \pi_d = \operatorname{sigmoid} \lambda_d

References:
    Saul, Jaakkola & Jordan (1996), Mean Field Theory for Sigmoid Belief Networks.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pyro import distributions
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrolvm.families.family import Family

INITIAL_LOG_ODDS = -1.0
"""Log odds of every unit before training: mostly off, as those of a new belief network."""

MOST_CERTAIN = 0.99
"""Largest probability that a unit starts from; a surer one would hardly learn."""


class Bernoulli(Family):
    """Independent zeros and ones: D log odds.

    Draws carry no pathwise gradient: it takes an objective for discrete latents.

    >>> Bernoulli(3).distribution(torch.zeros(5, 3)).event_shape
    torch.Size([3])
    """

    name = "bernoulli"
    is_binary = True

    @property
    def num_parameters(self) -> int:
        """Log odds of each dimension."""
        return self.dim

    @property
    def initial(self) -> Float[Tensor, " P"]:
        """Units that are mostly off."""
        return torch.full((self.dim,), INITIAL_LOG_ODDS)

    def distribution(self, parameters: Float[Tensor, "*batch P"]) -> TorchDistribution:
        """Return the independent units of these log odds."""
        return distributions.Bernoulli(logits=parameters).to_event(1)

    def from_gaussian(
        self, loc: Float[Tensor, "*batch D"], scale_tril: Float[Tensor, "*batch D D"]
    ) -> Float[Tensor, "*batch P"]:
        """Return the member with the mean of the Gaussian, as far as it is a probability."""
        return torch.logit(loc.clamp(1 - MOST_CERTAIN, MOST_CERTAIN))

    def from_draws(self, draws: Float[Tensor, "draws *batch D"]) -> Float[Tensor, "*batch P"]:
        """Return the member with the draws' shares of ones, and half a draw of either value."""
        return torch.logit((draws.sum(0) + 0.5) / (len(draws) + 1))

    def covariance(self, parameters: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch D D"]:
        """Return the diagonal covariance matrix."""
        return torch.diag_embed(self.distribution(parameters).variance)
