r"""Triangular VAE: anchor outputs that fix the code, and anything on the rest.

.. math:: z \sim p_z \text{ (fixed)}, \qquad
          x_{a_i} = f_i(z_1, \ldots, z_i) + \varepsilon_i, \quad
          x_{\text{rest}} = g(z) + \varepsilon, \qquad
          \varepsilon \sim N(0, \sigma^2) \text{ with known } \sigma

The law of x and a known noise give the law of the noiseless outputs (the characteristic function
of a Gaussian has no zeros). Of two generators with the same law, the anchors alone leave only an
A that is triangular, increasing and keeps p_z: the identity. So z is strongly identifiable,
relative to the anchors, their order and their signs, which are chosen.

References:
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Self

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyrolvm.core import Model
from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.nn import mlp
from pyrolvm.nn.factorised_prior import FactorisedPrior, fixed_prior
from pyrolvm.nn.noise import LearnedScale
from pyrolvm.nn.triangular import Composition, Signs, Standardise, triangular_layers


class TriangularVAE(Model):
    """A decoder that is triangular monotone in its anchor outputs, with fixed prior and noise.

    Args:
        latent_dim: Dimension d of z.
        obs_dim: Dimension of x, at least d.
        hidden: Widths of the hidden layers of the network for the rest.
        anchors: Indices of d outputs, in order; the first d where it is None.
        layers: Number of spline or integral layers of the triangular map.
        kind: ``"spline"``, ``"integral"`` or ``"affine"``.
        signature: For each anchor +1 if it increases in its z_i, −1 if it decreases; all +1 where
            it is None.
        prior: The fixed law of z: ``"normal"``, ``"laplace"``, ``"logistic"``, or a
            :class:`pyrolvm.nn.factorised_prior.FactorisedPrior`.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`, for the rest.
        noise_scale: Standard deviation of x given z.
        learn_noise: Whether the noise is trained. The code is identified for known noise only, so
            this warns.

    Raises:
        SettingError: If a size is below 1, there are fewer outputs than latents, the anchors are
            not d different outputs, or the signature or the prior does not fit.
        UnknownNameError: If there is no such kind of layer, activation or shape of prior.

    >>> TriangularVAE(latent_dim=2, obs_dim=8)(size=4).shape
    torch.Size([4, 8])
    """

    order: Tensor

    def __init__(
        self,
        latent_dim: int = 2,
        obs_dim: int = 8,
        hidden: Sequence[int] = (64,),
        anchors: Sequence[int] | None = None,
        layers: int = 1,
        kind: str = "spline",
        signature: Sequence[int] | None = None,
        prior: FactorisedPrior | str = "normal",
        activation: str = "tanh",
        *,
        noise_scale: float = 0.1,
        learn_noise: bool = False,
    ) -> None:
        super().__init__()
        require_at_least(1, latent_dim=latent_dim)
        self.latent_dim, self.obs_dim = latent_dim, obs_dim
        self.anchors = _checked_anchors(latent_dim, obs_dim, anchors)
        rest = [index for index in range(obs_dim) if index not in self.anchors]
        # Where each output stands among the anchors followed by the rest.
        self.register_buffer("order", torch.tensor([*self.anchors, *rest]).argsort())
        signs = Signs(latent_dim, signature)
        self.signature = tuple(int(sign) for sign in signs.signature)
        self.triangular = Composition([*triangular_layers(latent_dim, layers, kind), signs])
        self.free = mlp(latent_dim, tuple(hidden), len(rest), activation) if rest else None
        self.standardise = Standardise(obs_dim)
        self.fixed_prior = fixed_prior(latent_dim, prior)
        self.noise = LearnedScale(noise_scale, learn=learn_noise)
        if learn_noise:
            warnings.warn(
                "TriangularVAE identifies z for known noise only: with learn_noise=True the noise "
                "can trade against the generator, and codes of several runs may differ. Fix it "
                "with learn_noise=False.",
                stacklevel=2,
            )

    @property
    def prior_is_fixed(self) -> bool:
        """Whether p(z) is given: always."""
        return True

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
        return self.fixed_prior()

    def likelihood(self, z: Float[Tensor, "*batch latent_dim"]) -> TorchDistribution:
        """Return p(x | z), event shape ``(obs_dim,)``."""
        return Normal(self.generate(z), self.noise_scale).to_event(1)

    def generate(self, z: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the mean of x: the triangular map at the anchors, a network elsewhere."""
        parts = [self.triangular(z)[0], *([] if self.free is None else [self.free(z)])]
        return self.standardise.inverse(torch.cat(parts, -1)[..., self.order])

    def generate_anchors(
        self, z: Float[Tensor, "*batch latent_dim"]
    ) -> Float[Tensor, "*batch latent_dim"]:
        """Return the mean of the anchors in their order: triangular and monotone in z."""
        return self.generate(z)[..., list(self.anchors)]

    def standardise_by(self, x: Float[Tensor, "data obs_dim"]) -> Self:
        """Let the generator's outputs be in units of these data.

        Args:
            x: Training data, shape ``(N, obs_dim)``. ``lvm.fit`` does this by itself, where it was
                not done before.

        Raises:
            DataError: If the width is another one, a value is not finite, there are fewer than
                two rows, or a coordinate does not vary.
        """
        self.standardise.set_from(x)
        return self

    @property
    def is_standardised(self) -> bool:
        """Whether :meth:`standardise_by` was called."""
        return bool(self.standardise.was_set)


def _checked_anchors(
    latent_dim: int, obs_dim: int, anchors: Sequence[int] | None
) -> tuple[int, ...]:
    if obs_dim < latent_dim:
        raise SettingError(
            f"A triangular VAE needs one anchor output for each latent dimension, but obs_dim is "
            f"{obs_dim} and latent_dim {latent_dim}. Raise obs_dim, or lower latent_dim."
        )
    chosen = tuple(range(latent_dim)) if anchors is None else tuple(anchors)
    if len(set(chosen)) != latent_dim or len(chosen) != latent_dim:
        raise SettingError(
            f"anchors should be {latent_dim} different outputs, one for each latent dimension, "
            f"but they are {chosen}."
        )
    if not set(chosen) <= set(range(obs_dim)):
        raise SettingError(
            f"anchors should be outputs from 0 to {obs_dim - 1}, but they are {chosen}."
        )
    return chosen
