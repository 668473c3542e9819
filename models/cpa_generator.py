r"""Continuous piecewise-affine generator: a ReLU network whose exact posterior is known.

.. math:: z \sim \sum_k \pi_k N(\mu_k, L_k L_k^\top), \qquad
          x \mid z \sim N(g(z), \operatorname{diag}(\sigma^2))

with g any stack of Linear layers and ReLU, LeakyReLU or Abs activations. On each of the finitely
many polytopes on which g is affine, the posterior is a Gaussian cut to the polytope (one for each
component of the prior); the guide ``ExactCPA`` sums them up.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyrolvm.core import Model
from pyrolvm.core.capabilities import AffineGenerator
from pyrolvm.core.errors import UnknownNameError
from pyrolvm.exact import AffineStack
from pyrolvm.nn import PIECEWISE_AFFINE, mlp
from pyrolvm.nn.gaussian_prior import GaussianPrior
from pyrolvm.nn.layers import assign_layers
from pyrolvm.nn.noise import LearnedScale


class CPAGenerator(Model):
    """A piecewise-affine decoder with Gaussian noise and any Gaussian prior, or a mixture of them.

    Args:
        latent_dim: Dimension of z; the exact posterior is served up to 5.
        obs_dim: Dimension of x.
        hidden: Widths of the hidden layers.
        noise_scale: Standard deviation of x given z (at the start, if it is learned).
        activation: ``"relu"``, ``"leaky_relu"`` or ``"abs"``.
        isotropic: One noise scale for all dimensions, or one each.
        learn_noise: Whether the noise is trained (never below a floor of 1e-3).
        learn_prior: Whether mean and covariance (and weights) of z are trained.
        prior_components: Number of Gaussians K in the prior.
        prior_loc: Mean of z, shape ``(latent_dim,)``; 0 where it is None. Of a mixture
            ``(K, latent_dim)``; standard normal draws where it is None.
        prior_scale_tril: Cholesky factor of the covariance of z; the identity where it is None. Of
            a mixture with K in front; half the identity where it is None.

    >>> model = CPAGenerator(latent_dim=2, obs_dim=3, hidden=(8,), noise_scale=0.1)
    >>> model(size=4).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        latent_dim: int,
        obs_dim: int,
        hidden: Sequence[int] = (32,),
        noise_scale: float = 0.1,
        activation: str = "relu",
        *,
        isotropic: bool = True,
        learn_noise: bool = False,
        learn_prior: bool = False,
        prior_components: int = 1,
        prior_loc: Tensor | None = None,
        prior_scale_tril: Tensor | None = None,
    ) -> None:
        super().__init__()
        if activation not in PIECEWISE_AFFINE:
            raise UnknownNameError("piecewise-affine activation", activation, PIECEWISE_AFFINE)
        self.latent_dim, self.obs_dim = latent_dim, obs_dim
        self.decoder = mlp(latent_dim, tuple(hidden), obs_dim, activation)
        self.noise = LearnedScale(noise_scale, 1 if isotropic else obs_dim, learn=learn_noise)
        self.latent_prior = GaussianPrior(
            latent_dim,
            prior_components,
            learn=learn_prior,
            loc=prior_loc,
            scale_tril=prior_scale_tril,
        )

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
        return self.latent_prior()

    def likelihood(self, z: Float[Tensor, "*batch latent_dim"]) -> TorchDistribution:
        """Return p(x | z), event shape ``(obs_dim,)``."""
        return Normal(self.generate(z), self.noise_scale).to_event(1)

    def generate(self, z: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the mean of x."""
        return self.decoder(z)

    @property
    def affine_stack(self) -> AffineGenerator:
        """The generator as affine layers with slopes between them, live."""
        prior = self.latent_prior
        return AffineStack.from_sequential(
            self.decoder, self.noise(), prior.loc, prior.scale_tril, prior.logits
        )

    def assign_stack(self, stack: AffineGenerator) -> None:
        """Take over the values of layers, noise and prior that learn."""
        assign_layers(self.decoder, stack.weights, stack.biases)
        if self.noise.learns:
            self.noise.assign(stack.noise_scale)
        prior = AffineStack.of(stack)
        self.latent_prior.assign(prior.prior_loc, prior.prior_scale_tril, prior.prior_logits)
