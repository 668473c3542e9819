r"""Variational autoencoder's generative half: a network decoder under Gaussian or Bernoulli noise.

.. math:: z \sim N(0, I), \qquad x \mid z \sim N(g(z), \sigma^2 I)
          \quad\text{or}\quad x \mid z \sim \text{Bernoulli}(\operatorname{sigmoid} g(z))

References:
    Kingma & Welling (2014), Auto-Encoding Variational Bayes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
from jaxtyping import Float
from pyro.distributions import Bernoulli, Normal, TorchDistribution
from torch import Tensor

from pyrolvm.core import Model
from pyrolvm.core.capabilities import AffineGenerator
from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.core.model import holds_more_than_bits
from pyrolvm.exact import AffineStack
from pyrolvm.nn import PIECEWISE_AFFINE, mlp
from pyrolvm.nn.layers import assign_layers
from pyrolvm.nn.noise import LearnedScale

LIKELIHOODS = ("gaussian", "bernoulli")


class VAE(Model):
    """A decoder network with a standard normal prior; the guide is chosen apart.

    With a Gaussian likelihood and a piecewise-affine activation it is a piecewise-affine generator
    too, so that ``ExactCPA`` serves it.

    Args:
        latent_dim: Dimension of z.
        obs_dim: Dimension of x.
        hidden: Widths of the decoder's hidden layers.
        likelihood: ``"gaussian"``, or ``"bernoulli"`` for data of zeros and ones.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        noise_scale: Standard deviation of x given z at the start (Gaussian).
        learn_noise: Whether the noise is trained.

    >>> VAE(latent_dim=2, obs_dim=3, likelihood="bernoulli")(size=4).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        latent_dim: int,
        obs_dim: int,
        hidden: Sequence[int] = (64,),
        likelihood: str = "gaussian",
        activation: str = "relu",
        *,
        noise_scale: float = 0.5,
        learn_noise: bool = True,
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise UnknownNameError("likelihood", likelihood, LIKELIHOODS)
        self.latent_dim, self.obs_dim = latent_dim, obs_dim
        self.is_gaussian = likelihood == "gaussian"
        self.activation = activation
        self.decoder = mlp(latent_dim, tuple(hidden), obs_dim, activation)
        self.noise = LearnedScale(noise_scale, learn=learn_noise) if self.is_gaussian else None

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample or score observations of shape ``(N, obs_dim)``."""
        with pyro.plate("data", self.batch_size(x, size), dim=-1):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.likelihood(z), obs=None if x is None else x.to(z.dtype))

    def prior(self) -> TorchDistribution:
        """Return p(z), event shape ``(latent_dim,)``."""
        zeros = next(self.decoder.parameters()).new_zeros(self.latent_dim)
        return Normal(zeros, 1.0).to_event(1)

    def likelihood(self, z: Float[Tensor, "*batch latent_dim"]) -> TorchDistribution:
        """Return p(x | z), event shape ``(obs_dim,)``."""
        output = self.decoder(z)
        if self.noise is None:
            return Bernoulli(logits=output).to_event(1)
        return Normal(output, self.noise()).to_event(1)

    def generate(self, z: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the mean of x; of zeros and ones, the probability of a one."""
        output = self.decoder(z)
        return output if self.is_gaussian else output.sigmoid()

    def batch_size(self, x: Tensor | None, size: int | None) -> int:
        """Return the size of the data plate; Bernoulli data must be zeros and ones."""
        if x is not None and not self.is_gaussian and holds_more_than_bits(x):
            raise DataError(
                "A Bernoulli VAE needs data of zeros and ones, but it got values in "
                f"[{x.min().item():.3g}, {x.max().item():.3g}]. Binarise them, or use "
                "likelihood='gaussian'."
            )
        return super().batch_size(x, size)

    @property
    def affine_stack(self) -> AffineGenerator:
        """The generator as affine layers, where it is piecewise affine and Gaussian.

        Raises:
            AttributeError: If the likelihood or the activation is another one.
        """
        if self.noise is None or self.activation not in PIECEWISE_AFFINE:
            raise AttributeError(
                "only a Gaussian VAE with a piecewise-affine decoder has affine layers"
            )
        return AffineStack.from_sequential(self.decoder, self.noise())

    def assign_stack(self, stack: AffineGenerator) -> None:
        """Take over the values of layers and noise that learn."""
        assign_layers(self.decoder, stack.weights, stack.biases)
        if self.noise is not None and self.noise.learns:
            self.noise.assign(stack.noise_scale)
