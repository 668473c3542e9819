r"""Folding: a uniform variable folded k times, so that the posterior has 2^k equal modes.

.. math:: z \sim N(0, 1), \qquad u = \Phi(z), \qquad
          x \mid z \sim N(\operatorname{tent}^k(u), \sigma^2), \qquad
          \operatorname{tent}(u) = 1 - |2u - 1|

A guide that covers C of the modes has a gap of at least :math:`\log(2^k / C)`, while the generator
grows by one layer for each fold. (PyroLVM's own example of many-to-one hardness; it is not a
construction of Pareek & Risteski.)
"""

from __future__ import annotations

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor
from torch.special import ndtr

from pyrolvm.core import Model
from pyrolvm.core.errors import require_at_least
from pyrolvm.nn.noise import LearnedScale
from pyrolvm.nn.zigzag import ZigzagPosterior, from_uniform, on_pieces, zigzag


class Folding(Model):
    """A tent map of one latent variable: 2^k preimages, posterior and evidence known.

    It has no parameters. :class:`InjectiveSlope` has the same slope without folds.

    Args:
        num_folds: Number of folds k.
        noise_scale: Standard deviation of x given z.

    Raises:
        SettingError: If the number of folds is negative.

    >>> Folding(num_folds=2).num_pieces
    4
    """

    latent_dim = 1
    obs_dim = 1

    def __init__(self, num_folds: int = 1, noise_scale: float = 0.03) -> None:
        super().__init__()
        require_at_least(0, num_folds=num_folds)
        self.num_folds = num_folds
        self.noise = LearnedScale(noise_scale, learn=False)

    @property
    def num_pieces(self) -> int:
        """Number of pieces on which the map is injective, 2^k."""
        return int(2**self.num_folds)

    @property
    def noise_scale(self) -> Float[Tensor, " 1"]:
        """Standard deviation of x given z, shape ``(1,)``."""
        return self.noise()

    def forward(
        self, x: Float[Tensor, "data 1"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample or score observations of shape ``(N, 1)``."""
        with pyro.plate("data", self.batch_size(x, size), dim=-1):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.likelihood(z), obs=x)

    def prior(self) -> TorchDistribution:
        """Return p(z), event shape ``(1,)``."""
        return Normal(self.noise_scale.new_zeros(1), 1.0).to_event(1)

    def likelihood(self, z: Float[Tensor, "*batch 1"]) -> TorchDistribution:
        """Return p(x | z), event shape ``(1,)``."""
        return Normal(self.generate(z), self.noise_scale).to_event(1)

    def generate(self, z: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch 1"]:
        """Return the mean of x, the folded Φ(z)."""
        return zigzag(ndtr(z), self.num_pieces)

    def preimages(self, t: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch piece"]:
        """Return the z on each piece that generate t, from left to right, for t in [0, 1]."""
        pieces = torch.arange(self.num_pieces, device=t.device)
        return from_uniform(on_pieces(t.clamp(0, 1), pieces, self.num_pieces))

    def posterior(self, x: Float[Tensor, "data 1"]) -> ZigzagPosterior:
        """Return p(z | x): batch shape ``(N,)``, event shape ``(1,)``."""
        self.batch_size(x, None)
        return ZigzagPosterior(
            x.to(self.dtype), self.noise_scale, interval=(0.0, 1.0), num_pieces=self.num_pieces
        )

    def log_evidence(self, x: Float[Tensor, "data 1"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, float64, shape ``(N,)``, in closed form."""
        self.batch_size(x, None)
        return ZigzagPosterior(x.double(), self.noise_scale.double()).log_evidence()
