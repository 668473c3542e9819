r"""Injective slope: as steep as a folding of k folds, but one to one.

.. math:: z \sim N(0, 1), \qquad u = \Phi(z), \qquad x \mid z \sim N(2^k (u - 1/2), \sigma^2)

The control of :class:`Folding`: the local slope, and with it the width of the posterior, is the
same, but there is one mode for every k. What a guide loses here, it loses to amortization.
"""

from __future__ import annotations

import pyro
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor
from torch.special import ndtr

from pyrolvm.core import Model
from pyrolvm.core.errors import require_at_least
from pyrolvm.nn.noise import LearnedScale
from pyrolvm.nn.zigzag import ZigzagPosterior


class InjectiveSlope(Model):
    """A steep one-to-one map of one latent variable, the control of folding.

    It has no parameters; posterior and evidence are known.

    Args:
        num_doublings: The slope in u is 2 to this power.
        noise_scale: Standard deviation of x given z.

    Raises:
        SettingError: If the number of doublings is negative.

    >>> InjectiveSlope(num_doublings=2).interval
    (-2.0, 2.0)
    """

    latent_dim = 1
    obs_dim = 1

    def __init__(self, num_doublings: int = 1, noise_scale: float = 0.03) -> None:
        super().__init__()
        require_at_least(0, num_doublings=num_doublings)
        self.num_doublings = num_doublings
        self.noise = LearnedScale(noise_scale, learn=False)

    @property
    def interval(self) -> tuple[float, float]:
        """Range of the mean of x."""
        end = 2.0 ** (self.num_doublings - 1)
        return -end, end

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
        """Return the mean of x, 2^k (Φ(z) − 1/2)."""
        return 2.0**self.num_doublings * (ndtr(z) - 0.5)

    def posterior(self, x: Float[Tensor, "data 1"]) -> ZigzagPosterior:
        """Return p(z | x): batch shape ``(N,)``, event shape ``(1,)``."""
        self.batch_size(x, None)
        return ZigzagPosterior(x.to(self.dtype), self.noise_scale, self.interval)

    def log_evidence(self, x: Float[Tensor, "data 1"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, float64, shape ``(N,)``, in closed form."""
        self.batch_size(x, None)
        return ZigzagPosterior(x.double(), self.noise_scale.double(), self.interval).log_evidence()
