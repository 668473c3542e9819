r"""Sign permutation: an easy generator whose inference inverts a permutation.

.. math:: z \sim N(0, I), \qquad x \mid z \sim N(f(\operatorname{sgn} z), \sigma^2 I), \qquad
          f : \{-1, 1\}^d \to \{-1, 1\}^d \text{ a bijection}

As f(sgn z) is uniform on the cube, the evidence is a product over the coordinates of x, and the
posterior is that of the code word c = f(s), independent bits, carried back to the signs of z:

.. math:: p(c \mid x) = \prod_i \frac{1}{1 + e^{-2 c_i x_i / \sigma^2}}, \qquad
          p(z \mid x) = p(f(\operatorname{sgn} z) \mid x) \prod_i 2 \phi(z_i)

The posterior is simple, half normals with known signs; only the map from x to the signs is hard,
so that all of a guide's gap is amortization.

References:
    Pareek & Risteski (2021), The Effects of Invertibility on the Representational Complexity of
    Encoders in Variational Autoencoders (with a one-way permutation; these are illustrations).
"""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from jaxtyping import Float, Int
from pyro.distributions import Normal, TorchDistribution, constraints
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyrolvm.core import Model
from pyrolvm.nn.noise import LearnedScale
from pyrolvm.nn.permutations import corner_numbers, corners, permutation_table


class SignPermutation(Model):
    """A generator that permutes the signs of z; posterior and evidence are known.

    It has no parameters, and its likelihood has no gradient in z.

    Args:
        latent_dim: Dimension d of z and of x, up to 16.
        permutation: ``"signed-bits"``, ``"gray-code"``, ``"modular-exponentiation"`` (d = 2, 4, 8
            or 16) or ``"random"``.
        noise_scale: Standard deviation of x given z.
        seed: Of the permutations that are drawn, signed-bits and random.

    Raises:
        UnknownNameError: If there is no such permutation.
        SettingError: If the permutation does not exist for this dimension.

    >>> SignPermutation(latent_dim=3, permutation="gray-code").codewords.shape
    torch.Size([8, 3])
    """

    images: Tensor
    preimages: Tensor

    def __init__(
        self,
        latent_dim: int,
        permutation: str = "gray-code",
        noise_scale: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.latent_dim = self.obs_dim = latent_dim
        self.permutation = permutation
        images = permutation_table(permutation, latent_dim, seed)
        self.register_buffer("images", images)
        self.register_buffer("preimages", images.argsort())
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
        """Return the mean of x, f(sgn z); its gradient is 0 wherever it exists."""
        return corners(self.images[corner_numbers(z)], self.obs_dim).to(z.dtype)

    @property
    def codewords(self) -> Float[Tensor, "corner obs_dim"]:
        """The code word f(s) of each sign pattern s, in the order of their numbers."""
        return corners(self.images, self.obs_dim).to(self.dtype)

    def signs_of(self, x: Float[Tensor, "*batch obs_dim"]) -> Float[Tensor, "*batch latent_dim"]:
        """Return the most probable signs of z given x: those of the nearest code word."""
        return corners(self.preimages[corner_numbers(x)], self.latent_dim).to(x.dtype)

    def posterior(self, x: Float[Tensor, "data obs_dim"]) -> SignPosterior:
        """Return p(z | x): batch shape ``(N,)``, event shape ``(latent_dim,)``."""
        self.batch_size(x, None)
        log_odds = 2 * x.to(self.dtype) / self.noise_scale**2
        return SignPosterior(log_odds, self.images, self.preimages)

    def log_evidence(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, float64, shape ``(N,)``, in closed form."""
        self.batch_size(x, None)
        x, scale = x.double(), self.noise_scale.double()
        ends = [
            Normal(end, scale).log_prob(x) for end in (-torch.ones_like(x), torch.ones_like(x))
        ]
        return (torch.logaddexp(*ends) - math.log(2)).sum(-1)


class SignPosterior(TorchDistribution):
    """Half normals in the orthants of the cube: batch ``(..., N)``, event ``(d,)``.

    Args:
        log_odds: Of +1 against −1 for each bit of the code word, shape ``(..., N, d)``.
        images: Number of the code word of each sign pattern, shape ``(2^d,)``.
        preimages: Number of the sign pattern of each code word, shape ``(2^d,)``.
    """

    arg_constraints = {}  # noqa: RUF012 - torch reads it from the class
    support = constraints.real_vector
    has_rsample = False

    def __init__(
        self,
        log_odds: Float[Tensor, "*batch d"],
        images: Int[Tensor, " corner"],
        preimages: Int[Tensor, " corner"],
    ) -> None:
        self.log_odds, self.images, self.preimages = log_odds, images, preimages
        super().__init__(log_odds.shape[:-1], log_odds.shape[-1:])

    def expand(self, batch_shape: Any, _instance: Any = None) -> SignPosterior:
        """Add batch dimensions on the left, as a plate of particles does."""
        log_odds = self.log_odds.expand(torch.Size(batch_shape) + self.event_shape)
        return SignPosterior(log_odds, self.images, self.preimages)

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "*sample d"]:
        """Draw exactly and independently."""
        log_odds = self.log_odds.expand(self._extended_shape(torch.Size(sample_shape)))
        words = torch.bernoulli(log_odds.sigmoid()) - 0.5
        signs = corners(self.preimages[corner_numbers(words)], self.event_shape[0])
        return signs.to(log_odds.dtype) * torch.randn_like(log_odds).abs()

    def log_prob(self, value: Float[Tensor, "*sample d"]) -> Float[Tensor, "*sample"]:
        """Return log p(value | x) in nats."""
        if self._validate_args:
            self._validate_sample(value)
        dim = self.event_shape[0]
        words = corners(self.images[corner_numbers(value)], dim).to(self.log_odds.dtype)
        half_normal = math.log(2) - 0.5 * math.log(2 * math.pi) - value.square() / 2
        return (logsigmoid(words * self.log_odds) + half_normal).sum(-1)
