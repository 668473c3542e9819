r"""Identifiable VAE: a decoder whose latent prior is learned for each environment.

.. math:: z \mid u \sim N(\mu(u), \operatorname{diag} \sigma^2(u)), \qquad
          x \mid z \sim N(g(z), s^2 I)

Environments u are labels 0, …, E − 1; the decoder does not see them. With enough environments z is
identified up to what the learned prior can follow: shifts, scales, permutations, and more where
means are learned. :class:`~pyrolvm.models.AnchoredIVAE` fixes the prior and leaves nothing open.

References:
    Khemakhem, Kingma, Monti & Hyvärinen (2020), Variational Autoencoders and Nonlinear ICA.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
from jaxtyping import Float, Int
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyrolvm.nn import mlp
from pyrolvm.nn.environment_model import EnvironmentModel
from pyrolvm.nn.learned_environment_prior import LearnedEnvironmentPrior
from pyrolvm.nn.noise import LearnedScale


class IVAE(EnvironmentModel):
    """A decoder network with a prior of its own, learned, for each environment.

    Data is a mapping ``{"x": x, "u": u}``; to sample, pass the labels u alone.

    Args:
        latent_dim: Dimension of z.
        obs_dim: Dimension of x.
        num_environments: Number E of environments.
        hidden: Widths of the decoder's hidden layers.
        noise_scale: Standard deviation of x given z (at the start, if it is learned).
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`, for decoder and prior.
        learn_means: Whether the prior's means are learned beside its scales; 0 otherwise.
        prior_hidden: Widths of the hidden layers from one-hot u to the prior; none makes a table.
        learn_noise: Whether the noise is trained.

    >>> import torch
    >>> IVAE(latent_dim=2, obs_dim=3, num_environments=5)(u=torch.tensor([0, 4, 4, 1])).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        latent_dim: int,
        obs_dim: int,
        num_environments: int,
        hidden: Sequence[int] = (64, 64),
        noise_scale: float = 0.1,
        activation: str = "leaky_relu",
        *,
        learn_means: bool = False,
        prior_hidden: Sequence[int] = (100, 100),
        learn_noise: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim, self.obs_dim = latent_dim, obs_dim
        self.num_environments = num_environments
        self.decoder = mlp(latent_dim, tuple(hidden), obs_dim, activation)
        self.noise = LearnedScale(noise_scale, learn=learn_noise)
        self.environment_prior = LearnedEnvironmentPrior(
            num_environments,
            latent_dim,
            prior_hidden,
            learn_means=learn_means,
            activation=activation,
        )

    def forward(
        self,
        x: Float[Tensor, "data obs_dim"] | None = None,
        u: Int[Tensor, " data"] | None = None,
        *,
        size: int | None = None,
    ) -> Tensor:
        """Sample or score observations of shape ``(N, obs_dim)`` in environments u, ``(N,)``."""
        labels = self.environments(x, u, size)
        with pyro.plate("data", len(labels), dim=-1):
            z = pyro.sample("z", self.conditional_prior(labels))
            return pyro.sample("x", self.likelihood(z), obs=x)

    def conditional_prior(self, u: Int[Tensor, " data"]) -> TorchDistribution:
        """Return p(z | u): batch shape ``(N,)``, event shape ``(latent_dim,)``."""
        return self.environment_prior(u)

    def likelihood(self, z: Float[Tensor, "*batch latent_dim"]) -> TorchDistribution:
        """Return p(x | z), event shape ``(obs_dim,)``."""
        return Normal(self.generate(z), self.noise()).to_event(1)

    def generate(self, z: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the mean of x."""
        return self.decoder(z)
