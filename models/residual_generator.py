r"""Strongly invertible residual generator, whose constants are proven.

.. math:: z \sim N(0, I), \qquad x \mid z \sim N(z + g(z), \sigma^2 I), \qquad
          \|g(z) - g(z')\| \le c \, \|z - z'\|, \quad c < 1

so that :math:`(1 - c) \|z - z'\| \le \|G(z) - G(z')\| \le (1 + c) \|z - z'\|`: the whole map is
invertible, though no layer of g is.

References:
    Behrmann, Grathwohl, Chen, Duvenaud & Jacobsen (2019), Invertible Residual Networks.
    Pareek & Risteski (2021), The Effects of Invertibility on the Representational Complexity of
    Encoders in Variational Autoencoders (the question; the constants here are derived anew).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyrolvm.core import DataError, Model
from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.nn.lipschitz import LipschitzNetwork, single_width
from pyrolvm.nn.noise import LearnedScale


class ResidualGenerator(Model):
    """An invertible generator z + g(z) with a contraction g and fixed Gaussian noise.

    Observations are as wide as the latent vector.

    Args:
        latent_dim: Dimension of z and of x.
        hidden: Number of tanh units of g, alone or as a sequence of one.
        contraction: Lipschitz constant c of g, between 0 and 1; training keeps it.
        input_scale: How far the units are driven: g is nearly linear at 0.1, and has its bends
            within 1/input_scale of one point at more than 1.
        noise_scale: Standard deviation of x given z.

    Raises:
        SettingError: If the contraction is not between 0 and 1.

    >>> model = ResidualGenerator(latent_dim=2, contraction=0.5)
    >>> model.certified_constants
    (0.5, 1.5)
    """

    def __init__(
        self,
        latent_dim: int,
        hidden: int | Sequence[int] = 32,
        contraction: float = 0.5,
        input_scale: float = 1.0,
        noise_scale: float = 0.2,
    ) -> None:
        super().__init__()
        require_at_least(1, latent_dim=latent_dim)
        if not 0 < contraction < 1:
            raise SettingError(
                "A residual generator is invertible for a contraction between 0 and 1, but it is "
                f"{contraction}. Lower it."
            )
        self.latent_dim = self.obs_dim = latent_dim
        self.contraction = contraction
        self.residual = LipschitzNetwork(
            latent_dim,
            single_width(hidden),
            latent_dim,
            contraction,
            input_scale,
            _reflection(latent_dim),
        )
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
        """Return the mean of x, G(z) = z + g(z)."""
        return z + self.residual(z)

    def inverse(
        self, x: Float[Tensor, "*batch obs_dim"], tolerance: float = 1e-6
    ) -> Float[Tensor, "*batch latent_dim"]:
        r"""Return the z of G(z) = x by Banach's iteration z ← x − g(z).

        It starts at x, and takes the T steps after which the error is proven to be small,

        .. math:: \|z_T - G^{-1}(x)\| \le \frac{c^T}{1 - c} \|g(x)\|

        Args:
            x: Points, shape ``(..., obs_dim)``.
            tolerance: Largest error of a z, apart from rounding.

        Raises:
            DataError: If a value is not finite.
            SettingError: If the tolerance is not positive.
        """
        if not 0 < tolerance < math.inf:
            raise SettingError(f"tolerance should be positive, but it is {tolerance}.")
        if not x.isfinite().all():
            raise DataError("inverse needs finite points, but some are not.")
        first = self.residual(x).norm(dim=-1).max().item() if x.numel() else 0.0
        ratio = tolerance * (1 - self.contraction) / max(first, tolerance)
        steps = math.ceil(math.log(ratio) / math.log(self.contraction))
        z = x
        for _ in range(steps):
            z = x - self.residual(z)
        return z

    @property
    def certified_constants(self) -> tuple[float, float]:
        """Proven constants (m, M) = (1 − c, 1 + c) of the map, for any weights."""
        return 1 - self.contraction, 1 + self.contraction

    @property
    def second_order_bound(self) -> float:
        """Bound M₂ on the second derivative of the map, for the present weights."""
        return self.residual.second_order_bound


def _reflection(dim: int) -> Tensor:
    """Draw a mirror: an axis that g turns around, where m is attained; it keeps the others."""
    axis = torch.nn.functional.normalize(torch.randn(dim), dim=0)
    return torch.eye(dim) - 2 * torch.outer(axis, axis)
