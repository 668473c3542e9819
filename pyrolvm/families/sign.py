r"""Half-normals of either sign, the exact posterior of generators that see only sgn(z).

.. math:: q(z; \lambda) = \prod_d \left[\pi_d \, N^+(z_d) + (1 - \pi_d) \, N^-(z_d)\right],
          \qquad \pi_d = \operatorname{sigmoid} \lambda_d

with :math:`N^\pm` the halves of the standard normal. A draw is a sign and an independent absolute
value, so that the family says which orthant z lies in and nothing else.

References:
    Pareek & Risteski (2021), The Effects of Invertibility on the Representational Complexity of
    Encoders in Variational Autoencoders (the posterior of their hard generators tends to this).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr

from pyrolvm.families.family import Family

HALF_NORMAL_MEAN = math.sqrt(2 / math.pi)


SURE = 1e-9
"""Probability of a side on which no draw lies."""


class SignedHalfNormals(TorchDistribution):
    """Independent half-normals, each on the positive side with a probability of its own.

    Draws carry no pathwise gradient: the density jumps at 0, so that one would be biased. SVI
    falls back to the score function.

    Args:
        logits: Log odds of the positive side, shape ``(..., D)``.
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 - read from the class
    support = constraints.real_vector
    has_rsample = False

    def __init__(
        self, logits: Float[Tensor, "*batch D"], *, validate_args: bool | None = None
    ) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> SignedHalfNormals:
        """Expand the batch."""
        new = self._get_checked_instance(SignedHalfNormals, _instance)
        batch = torch.Size(batch_shape)
        new.logits = self.logits.expand(batch + self.event_shape)
        super(SignedHalfNormals, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "*sample D"]:
        """Draw absolute values and signs."""
        shape = self._extended_shape(torch.Size(sample_shape))
        size = torch.randn(shape, dtype=self.logits.dtype, device=self.logits.device).abs()
        return torch.where(torch.rand_like(size) < self.logits.sigmoid(), size, -size)

    def log_prob(self, value: Float[Tensor, "*sample D"]) -> Float[Tensor, "*sample"]:
        """Return log q(value) in nats; 0 counts as positive."""
        if self._validate_args:
            self._validate_sample(value)
        log_half_normal = math.log(2) - 0.5 * (value.square() + math.log(2 * math.pi))
        log_side = logsigmoid(torch.where(value >= 0, self.logits, -self.logits))
        return (log_half_normal + log_side).sum(-1)

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """Mean, (2π − 1) times that of a half-normal."""
        return (0.5 * self.logits).tanh() * HALF_NORMAL_MEAN

    @property
    def variance(self) -> Float[Tensor, "*batch D"]:
        """Variances: the second moment of every dimension is 1."""
        return 1 - self.mean.square()


class Sign(Family):
    """Half-normals of either sign: D logits.

    >>> Sign(3).distribution(torch.zeros(5, 3)).event_shape
    torch.Size([3])
    """

    name = "sign"

    @property
    def num_parameters(self) -> int:
        """One logit a dimension."""
        return self.dim

    def distribution(self, parameters: Float[Tensor, "*batch P"]) -> SignedHalfNormals:
        """Return the signed half-normals of these logits."""
        return SignedHalfNormals(parameters)

    def from_gaussian(
        self, loc: Float[Tensor, "*batch D"], scale_tril: Float[Tensor, "*batch D D"]
    ) -> Float[Tensor, "*batch P"]:
        """Return the member with the Gaussian's probability of either sign in each dimension."""
        standardised = loc / scale_tril.norm(dim=-1)
        return log_ndtr(standardised) - log_ndtr(-standardised)

    def from_draws(self, draws: Float[Tensor, "draws *batch D"]) -> Float[Tensor, "*batch P"]:
        """Return the member with the draws' shares of either sign, almost sure where all agree."""
        share = (draws >= 0).to(draws.dtype).mean(0)
        return torch.logit(share.clamp(SURE, 1 - SURE))

    def covariance(self, parameters: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch D D"]:
        """Return the diagonal covariance matrix."""
        return torch.diag_embed(self.distribution(parameters).variance)
