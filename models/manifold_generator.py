r"""Manifold generator: data near a curved surface of a lower dimension, with proven constants.

.. math:: z \sim N(0, I_d), \qquad x \mid z \sim N(G(z), \sigma^2 I), \qquad
          G(z) = Q (z + g(z)) + (I - Q Q^\top) \, h(z) + b

Q has orthonormal columns, g and h have the Lipschitz constants c < 1 and B. The two terms are
orthogonal, so that for *all* pairs

.. math:: (1 - c)^2 \|z - z'\|^2 \le \|G(z) - G(z')\|^2 \le ((1 + c)^2 + B^2) \|z - z'\|^2

and the surface never comes back to itself, which Jacobians alone could not tell. As σ → 0 the data
lie on the surface, and the density of x has no limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.core import Model
from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.nn.lipschitz import LipschitzNetwork, single_width
from pyrolvm.nn.noise import LearnedScale
from pyrolvm.nn.orthonormal import OrthonormalColumns


class ManifoldGenerator(Model):
    """An embedded curved surface with fixed Gaussian noise; it stays embedded under training.

    Args:
        latent_dim: Dimension d of the surface.
        obs_dim: Dimension of x, more than d.
        hidden: Number of tanh units of g and of h, alone or as a sequence of one.
        contraction: Lipschitz constant c of g, the stretching within the tangent directions at
            the start, between 0 and 1.
        bend: Lipschitz constant B of h, the bending out of them.
        input_scale: How far the units are driven; the surface is nearly flat at 0.1.
        noise_scale: Standard deviation of x given z.

    Raises:
        SettingError: If x has not more dimensions than z, or the contraction is not below 1.

    >>> ManifoldGenerator(latent_dim=1, obs_dim=3, contraction=0.5).certified_constants[0]
    0.5
    """

    def __init__(
        self,
        latent_dim: int,
        obs_dim: int,
        hidden: int | Sequence[int] = 16,
        contraction: float = 0.5,
        bend: float = 1.0,
        input_scale: float = 1.0,
        noise_scale: float = 0.1,
    ) -> None:
        super().__init__()
        require_at_least(1, latent_dim=latent_dim)
        if obs_dim <= latent_dim or not 0 < contraction < 1:
            raise SettingError(
                "A ManifoldGenerator needs more observations than latents, and a contraction "
                f"between 0 and 1, but it has {latent_dim} latents, {obs_dim} observations and "
                f"contraction {contraction}."
            )
        self.latent_dim, self.obs_dim = latent_dim, obs_dim
        self.contraction, self.bend = contraction, bend
        width = single_width(hidden)
        self.frame = OrthonormalColumns(obs_dim, latent_dim)
        self.along = LipschitzNetwork(latent_dim, width, latent_dim, contraction, input_scale)
        self.across = LipschitzNetwork(latent_dim, width, obs_dim, bend, input_scale)
        self.offset = nn.Parameter(torch.zeros(obs_dim))
        self.noise = LearnedScale(noise_scale, learn=False)

    @property
    def noise_scale(self) -> Float[Tensor, " obs_dim"]:
        """Standard deviation of x given z, shape ``(obs_dim,)``."""
        return self.noise().expand(self.obs_dim)

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample or score observations of shape ``(N, obs_dim)``."""
        with pyro.plate("data", self.batch_size(x, size), dim=-1):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.likelihood(z), obs=x)

    def prior(self) -> TorchDistribution:
        """Return p(z), event shape ``(latent_dim,)``."""
        return Normal(self.noise_scale.new_zeros(self.latent_dim), 1.0).to_event(1)

    def likelihood(self, z: Float[Tensor, "*batch latent_dim"]) -> TorchDistribution:
        """Return p(x | z), event shape ``(obs_dim,)``."""
        return Normal(self.generate(z), self.noise_scale).to_event(1)

    def generate(self, z: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the mean of x, a point of the surface."""
        frame, across = self.frame(), self.across(z)
        inner = z + self.along(z) - across @ frame
        return inner @ frame.mT + across + self.offset

    @property
    def certified_constants(self) -> tuple[float, float]:
        """Proven constants (m, M) of the map, for any weights."""
        return 1 - self.contraction, math.hypot(1 + self.contraction, self.bend)
