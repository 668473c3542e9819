r"""Layerwise invertible generator: orthogonal matrices and smooth leaky activations.

.. math:: z \sim N(0, I), \qquad x \mid z \sim N(G(z), \sigma^2 I), \qquad
          G = \phi(Q_K \cdots \phi(Q_1 z + b_1) \cdots + b_K), \quad \phi' \in (a, 1)

so that :math:`a^K \|z - z'\| \le \|G(z) - G(z')\| \le \|z - z'\|`. A smaller a makes inference in
nats *easier*, because directions that shrink below the noise say nothing about z: compare at equal
information (tune the noise), not at equal noise.
"""

from __future__ import annotations

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.core import Model
from pyrolvm.core.errors import require_at_least
from pyrolvm.nn.noise import LearnedScale
from pyrolvm.nn.orthonormal import OrthonormalColumns
from pyrolvm.nn.smooth_leaky import SmoothLeaky


class LeakyGenerator(Model):
    """An invertible generator of orthogonal layers with leaky activations and fixed noise.

    Observations are as wide as the latent vector. The matrices stay orthogonal under training.

    Args:
        latent_dim: Dimension of z and of x.
        num_layers: Number of layers K.
        slope: Smallest slope a of the activation, above 0 and at most 1 (linear).
        sharpness: The activation's corner is about 1/sharpness wide.
        noise_scale: Standard deviation of x given z.

    Raises:
        SettingError: If there is no layer, or the slope or the sharpness is out of range.

    >>> LeakyGenerator(latent_dim=2, num_layers=3, slope=0.5).certified_constants
    (0.125, 1.0)
    """

    def __init__(
        self,
        latent_dim: int,
        num_layers: int = 3,
        slope: float = 0.5,
        sharpness: float = 4.0,
        noise_scale: float = 0.1,
    ) -> None:
        super().__init__()
        require_at_least(1, latent_dim=latent_dim, num_layers=num_layers)
        self.latent_dim = self.obs_dim = latent_dim
        self.rotations = nn.ModuleList(
            OrthonormalColumns(latent_dim, latent_dim) for _ in range(num_layers)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(0.5 * torch.randn(latent_dim)) for _ in range(num_layers)
        )
        self.activation = SmoothLeaky(slope, sharpness)
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
        """Return the mean of x."""
        for rotation, bias in zip(self.rotations, self.biases, strict=True):
            z = self.activation(z @ rotation().mT + bias)
        return z

    def inverse(self, x: Float[Tensor, "*batch obs_dim"]) -> Float[Tensor, "*batch latent_dim"]:
        """Return the z that generate x, layer by layer, to rounding.

        The image of a layer is not bounded: every finite x has its z.
        """
        pairs = list(zip(self.rotations, self.biases, strict=True))
        for rotation, bias in reversed(pairs):
            x = (self.activation.inverse(x) - bias) @ rotation()
        return x

    @property
    def certified_constants(self) -> tuple[float, float]:
        """Proven constants (m, M) = (a^K, 1) of the map, for any weights."""
        return self.activation.slope ** len(self.rotations), 1.0
