r"""Hierarchical variational autoencoder's generative half: latent layers from the top down.

.. math:: z_L \sim N(0, I), \qquad
          z_l \mid z_{l+1} \sim N(m_l(z_{l+1}), \operatorname{diag} s_l(z_{l+1})^2), \qquad
          x \mid z_1 \sim N(g(z_1), \sigma^2 I)
          \quad\text{or}\quad \text{Bernoulli}(\operatorname{sigmoid} g(z_1))

With skip connections g reads every layer. With one layer it is an ordinary VAE.

References:
    Rezende, Mohamed & Wierstra (2014), Stochastic Backpropagation and Approximate Inference.
    Sønderby et al. (2016), Ladder Variational Autoencoders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pyro
from jaxtyping import Float
from pyro.distributions import Bernoulli, Normal, OneHotCategorical, TorchDistribution
from torch import Tensor, nn

from pyrolvm.core import Model
from pyrolvm.core.errors import DataError, SettingError, UnknownNameError, require_at_least
from pyrolvm.core.model import holds_more_than_bits
from pyrolvm.nn import mlp
from pyrolvm.nn.convolutions import ImageDecoder, checked_image_shape
from pyrolvm.nn.gaussian_head import GaussianHead, side_by_side
from pyrolvm.nn.noise import LearnedScale

LIKELIHOODS = ("gaussian", "bernoulli")
NETWORKS = ("mlp", "conv")
TOPS = ("gaussian", "categorical")


class HierarchicalVAE(Model):
    """A decoder with several latent layers; the guide is chosen apart.

    The noise is fixed unless asked otherwise: weights on the rates of the layers have a meaning
    only relative to it.

    Args:
        latent_dims: Widths of the layers, bottom first: z_1, next to x, to z_L.
        obs_dim: Dimension of x.
        hidden: Widths of the hidden layers of every network.
        noise_scale: Standard deviation of x given z at the start (Gaussian).
        learn_noise: Whether the noise is trained.
        likelihood: ``"gaussian"``, or ``"bernoulli"`` for data of zeros and ones.
        skip: Whether x depends on every layer; else on z_1 alone.
        network: What makes x: ``"mlp"``, or ``"conv"`` for images.
        image_shape: Channels, height and width of an image, which is flat in the data; needed for
            ``conv``, and read by convolutional guides.
        channels: Channels between the transposed convolutions, near x first (``conv``).
        top: Prior of the top layer: ``"gaussian"``, or ``"categorical"`` for a one-hot vector with
            as many equally likely categories as the layer is wide.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    Attributes:
        latent_sites: Names of the layers, top first: ``("z_L", ..., "z_1")``.
        layer_dims: Width of each layer by name.

    Raises:
        UnknownNameError: If there is no such likelihood, network, top or activation.
        SettingError: If a width is not positive, or the shape of an image does not fit.

    >>> model = HierarchicalVAE(latent_dims=(3, 2), obs_dim=5)
    >>> model(size=4).shape, model.latent_sites
    (torch.Size([4, 5]), ('z_2', 'z_1'))
    """

    latent_sites: tuple[str, ...]  # type: ignore[misc]

    def __init__(
        self,
        latent_dims: Sequence[int] | int = (16, 4),
        obs_dim: int = 64,
        hidden: Sequence[int] = (96,),
        noise_scale: float = 0.1,
        learn_noise: bool = False,
        likelihood: str = "gaussian",
        skip: bool = False,
        network: str = "mlp",
        image_shape: Sequence[int] | None = None,
        channels: Sequence[int] = (32, 64),
        top: str = "gaussian",
        activation: str = "silu",
    ) -> None:
        super().__init__()
        _check_names(likelihood=likelihood, network=network, top=top)
        widths = (latent_dims,) if isinstance(latent_dims, int) else tuple(latent_dims)
        require_at_least(1, num_layers=len(widths))
        self.latent_sites = tuple(f"z_{layer}" for layer in range(len(widths), 0, -1))
        self.layer_dims = dict(zip(self.latent_sites, reversed(widths), strict=True))
        self.obs_dim, self.top, self.skip = obs_dim, top, skip
        self.is_gaussian = likelihood == "gaussian"
        self.priors = nn.ModuleDict()
        for above, site in pairwise(self.latent_sites):
            in_dim, dim = self.layer_dims[above], self.layer_dims[site]
            self.priors[site] = GaussianHead(in_dim, hidden, dim, activation)
        in_dim = sum(widths) if skip else widths[0]
        self.image_shape = None if image_shape is None else tuple(image_shape)
        if network == "conv":
            self.image_shape = checked_image_shape(image_shape, channels, obs_dim)
            self.decoder: nn.Module = ImageDecoder(in_dim, self.image_shape, channels, activation)
        else:
            _check_size(self.image_shape, obs_dim)
            self.decoder = mlp(in_dim, tuple(hidden), obs_dim, activation)
        self.noise = LearnedScale(noise_scale, learn=learn_noise) if self.is_gaussian else None

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample or score observations of shape ``(N, obs_dim)``."""
        with pyro.plate("data", self.batch_size(x, size), dim=-1):
            latents: dict[str, Tensor] = {}
            for site in self.latent_sites:
                latents[site] = pyro.sample(site, self.layer_prior(site, latents))
            likelihood = self.layer_likelihood(latents)
            return pyro.sample("x", likelihood, obs=None if x is None else x.to(self.dtype))

    def layer_prior(self, site: str, above: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(z_l | z_{l+1}); of the layers above, only the next one counts.

        Args:
            site: Name of the layer.
            above: Values of the layers above it by name, ``(..., N, width)`` each.

        Returns:
            Batch shape ``(..., N)`` below the top and ``()`` at the top, event shape ``(width,)``.

        Raises:
            UnknownNameError: If there is no such layer.
        """
        if site not in self.layer_dims:
            raise UnknownNameError("layer", site, self.layer_dims)
        if site != self.latent_sites[0]:
            next_above = self.latent_sites[self.latent_sites.index(site) - 1]
            return self.priors[site](above[next_above])
        zeros = next(self.decoder.parameters()).new_zeros(self.layer_dims[site])
        if self.top == "categorical":
            return OneHotCategorical(logits=zeros)
        return Normal(zeros, 1.0).to_event(1)

    def layer_likelihood(self, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(x | z_1), or p(x | z_1, ..., z_L) with skip connections.

        Args:
            latents: Values of the layers by name, ``(..., N, width)`` each.

        Returns:
            Batch shape ``(..., N)``, event shape ``(obs_dim,)``.
        """
        output = self._decoded(latents)
        if self.noise is None:
            return Bernoulli(logits=output).to_event(1)
        return Normal(output, self.noise()).to_event(1)

    def generate(self, latents: Mapping[str, Tensor]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the mean of x; of zeros and ones, the probability of a one.

        Args:
            latents: Values of the layers by name; only ``"z_1"`` is read without skip connections.
        """
        output = self._decoded(latents)
        return output if self.is_gaussian else output.sigmoid()

    def batch_size(self, x: Tensor | None, size: int | None) -> int:
        """Return the size of the data plate; Bernoulli data must be zeros and ones."""
        if x is not None and not self.is_gaussian and holds_more_than_bits(x):
            raise DataError(
                "A HierarchicalVAE with a Bernoulli likelihood needs data of zeros and ones, but "
                f"it got values in [{x.min().item():.3g}, {x.max().item():.3g}]. Binarise them, "
                "or use likelihood='gaussian'."
            )
        return super().batch_size(x, size)

    def _decoded(self, latents: Mapping[str, Tensor]) -> Tensor:
        read = self.latent_sites if self.skip else self.latent_sites[-1:]
        return self.decoder(side_by_side([latents[site] for site in read]))


def _check_size(image_shape: tuple[int, ...] | None, obs_dim: int) -> None:
    if image_shape is not None and (len(image_shape) != 3 or math.prod(image_shape) != obs_dim):
        raise SettingError(
            "image_shape should be (channels, height, width) of an observation, which has "
            f"{obs_dim} values, but it is {image_shape}."
        )


def _check_names(**chosen: str) -> None:
    for what, known in (("likelihood", LIKELIHOODS), ("network", NETWORKS), ("top", TOPS)):
        if chosen[what] not in known:
            raise UnknownNameError(what, chosen[what], known)
