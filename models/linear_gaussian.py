r"""Linear Gaussian latent-variable model: probabilistic PCA and factor analysis.

.. math:: z \sim N(0, I), \qquad x \mid z \sim N(W z + b, \operatorname{diag}(\sigma^2))

The posterior is :math:`N(\Lambda^{-1} W^\top \Sigma^{-1}(x - b), \Lambda^{-1})` with
:math:`\Lambda = I + W^\top \Sigma^{-1} W`, the evidence :math:`N(x; b, W W^\top + \Sigma)`.

References:
    Tipping & Bishop (1999), Probabilistic Principal Component Analysis.
"""

from __future__ import annotations

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import (
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    TorchDistribution,
)
from torch import Tensor, nn

from pyrolvm.core import Model
from pyrolvm.core.capabilities import AffineGenerator
from pyrolvm.exact import AffineStack
from pyrolvm.nn import mlp
from pyrolvm.nn.layers import assign_layers
from pyrolvm.nn.noise import LearnedScale


class LinearGaussian(Model):
    """Probabilistic PCA (``isotropic=True``) or factor analysis.

    Posterior and evidence are known in closed form.

    Args:
        latent_dim: Dimension of z.
        obs_dim: Dimension of x.
        noise_scale: Standard deviation of x given z at the start.
        isotropic: One noise scale for all dimensions (probabilistic PCA), or one each (factor
            analysis).
        learn_noise: Whether the noise is trained.

    >>> model = LinearGaussian(latent_dim=2, obs_dim=5)
    >>> model.posterior(torch.zeros(3, 5)).event_shape
    torch.Size([2])
    """

    def __init__(
        self,
        latent_dim: int,
        obs_dim: int,
        *,
        noise_scale: float = 1.0,
        isotropic: bool = True,
        learn_noise: bool = True,
    ) -> None:
        super().__init__()
        self.latent_dim, self.obs_dim = latent_dim, obs_dim
        self.decoder = mlp(latent_dim, (), obs_dim)
        self.noise = LearnedScale(noise_scale, 1 if isotropic else obs_dim, learn=learn_noise)

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
        return self.decoder(z)

    def posterior(self, x: Float[Tensor, "data obs_dim"]) -> MultivariateNormal:
        """Return p(z | x): batch shape ``(N,)``, event shape ``(latent_dim,)``."""
        self.batch_size(x, None)
        loading, offset = self._affine()
        scaled = loading / self.noise_scale[:, None] ** 2
        eye = torch.eye(self.latent_dim, dtype=loading.dtype, device=loading.device)
        precision = eye + loading.mT @ scaled
        loc = torch.linalg.solve(precision, ((x.to(loading.dtype) - offset) @ scaled).mT).mT
        factor = torch.linalg.cholesky(precision)
        scale_tril = torch.linalg.cholesky(torch.cholesky_inverse(factor))
        return MultivariateNormal(loc, scale_tril=scale_tril)

    def log_evidence(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, float64, shape ``(N,)``, differentiable in the parameters."""
        self.batch_size(x, None)
        loading, offset = (parameter.double() for parameter in self._affine())
        variance = self.noise_scale.double() ** 2
        return LowRankMultivariateNormal(offset, loading, variance).log_prob(x.double())

    def _affine(self) -> tuple[Tensor, Tensor]:
        """Loading W and offset b."""
        layer = self.decoder[0]
        assert isinstance(layer, nn.Linear)
        return layer.weight, layer.bias

    @property
    def affine_stack(self) -> AffineGenerator:
        """The generator as a single affine layer."""
        return AffineStack.from_sequential(self.decoder, self.noise())

    def assign_stack(self, stack: AffineGenerator) -> None:
        """Take over the values of loading, offset and noise that learn."""
        assign_layers(self.decoder, stack.weights, stack.biases)
        if self.noise.learns:
            self.noise.assign(stack.noise_scale)
