r"""Identifiable VAE with fixed priors: where these suffice, an observation has one latent code.

.. math:: z \mid u \sim N(\mu_u, \operatorname{diag} \sigma_u^2) \text{ given}, \qquad
          x \mid z \sim N(g(z), s^2 I)

Only the decoder learns. A second decoder that explains the data equally well differs by a map that
carries every p(z | u) into itself; with d + 1 affinely independent means that is the identity
alone. Zero means with scales that vary leave the signs of z open. It is enough to fix the priors
of a set of environments that suffices; those of the others may learn.

References:
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
from jaxtyping import Float, Int
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyrolvm.nn import mlp
from pyrolvm.nn.environment_model import EnvironmentModel
from pyrolvm.nn.environment_prior import EnvironmentPrior
from pyrolvm.nn.noise import LearnedScale


class AnchoredIVAE(EnvironmentModel):
    """A decoder network under a given prior for each environment.

    Data is a mapping ``{"x": x, "u": u}``; to sample, pass the labels u alone.

    Args:
        prior: Means and scales of z in each environment; its values are copied.
        obs_dim: Dimension of x.
        hidden: Widths of the decoder's hidden layers.
        noise_scale: Standard deviation of x given z (at the start, if it is learned).
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        learned: Labels of environments whose prior is trained, from the given values on.
        learn_noise: Whether the noise is trained.

    Raises:
        SettingError: If ``learned`` holds what is no label.

    >>> import torch
    >>> prior = EnvironmentPrior(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]]), 1.0)
    >>> AnchoredIVAE(prior, obs_dim=4)(u=torch.tensor([0, 2, 2, 1, 1])).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        prior: EnvironmentPrior,
        obs_dim: int,
        hidden: Sequence[int] = (64, 64),
        noise_scale: float = 0.1,
        activation: str = "leaky_relu",
        *,
        learned: Sequence[int] = (),
        learn_noise: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim, self.obs_dim = prior.latent_dim, obs_dim
        self.num_environments = prior.num_environments
        self.decoder = mlp(self.latent_dim, tuple(hidden), obs_dim, activation)
        self.noise = LearnedScale(noise_scale, learn=learn_noise)
        self.environment_prior = EnvironmentPrior(
            prior.loc, prior.scale, sorted({*prior.learned, *learned})
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
