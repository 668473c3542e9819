r"""Convolutional generator with pooling: injective as a whole, though not layer by layer.

.. math:: z \sim N(0, I), \qquad x \mid z \sim N(G(z), \sigma^2 I), \qquad
          G = \operatorname{conv}_{C \to 1} \circ \operatorname{pool}_2 \circ \tanh
          \circ \operatorname{conv}_{1 \to C} \circ A

A spreads z over a signal of twice the width of x, the first convolution widens it to C channels,
pooling averages neighbours, the second convolution mixes the channels to one. Pooling and mixing
forget most directions of their inputs; that none of them is one of the low-dimensional image of z
is measured by :func:`pyrolvm.inference.invertibility`, and not proven.
"""

from __future__ import annotations

import math

import pyro
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.core import Model
from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.nn.noise import LearnedScale


class ConvGenerator(Model):
    """A small convolutional decoder of one-channel signals with pooling and fixed noise.

    Twice as many observations as latents keep it away from folds; a square one often has some.

    Args:
        latent_dim: Dimension of z, at most that of x.
        obs_dim: Width of the signal x.
        channels: Number of channels C between the convolutions.
        kernel_size: Odd width of the kernels.
        noise_scale: Standard deviation of x given z.

    Raises:
        SettingError: If there are more latents than observations, or a kernel of even width.

    >>> ConvGenerator(latent_dim=2, obs_dim=8)(size=4).shape
    torch.Size([4, 8])
    """

    def __init__(
        self,
        latent_dim: int,
        obs_dim: int,
        channels: int = 8,
        kernel_size: int = 3,
        noise_scale: float = 0.1,
    ) -> None:
        super().__init__()
        require_at_least(1, latent_dim=latent_dim, channels=channels, kernel_size=kernel_size)
        if latent_dim > obs_dim or kernel_size % 2 == 0:
            raise SettingError(
                "A ConvGenerator needs no more latents than observations, and kernels of odd "
                f"width, but it has {latent_dim} latents, {obs_dim} observations and width "
                f"{kernel_size}."
            )
        self.latent_dim, self.obs_dim = latent_dim, obs_dim
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 2 * obs_dim),
            nn.Unflatten(-1, (1, 2 * obs_dim)),
            nn.Conv1d(1, channels, kernel_size, padding="same"),
            nn.Tanh(),
            nn.AvgPool1d(2),
            nn.Conv1d(channels, 1, kernel_size, padding="same"),
            nn.Flatten(-2),
        )
        self._widen()
        self.noise = LearnedScale(noise_scale, learn=False)

    def _widen(self) -> None:
        """Draw weights that keep signals near unit scale; torch's own shrink them by 10."""
        for layer in self.decoder:
            if isinstance(layer, nn.Linear | nn.Conv1d):
                fan_in = layer.weight[0].numel()
                nn.init.normal_(layer.weight, std=1.5 / math.sqrt(fan_in))

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
        rows = self.decoder(z.reshape(-1, self.latent_dim))
        return rows.reshape(*z.shape[:-1], self.obs_dim)
