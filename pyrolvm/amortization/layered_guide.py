"""The base of guides for models with several latent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro.distributions import constraints
from torch import nn

from pyrolvm.amortization.standardising_guide import StandardisingGuide
from pyrolvm.core import Layered
from pyrolvm.core.errors import UnknownNameError
from pyrolvm.nn.convolutions import ImageEncoder, checked_image_shape
from pyrolvm.nn.gaussian_head import GaussianHead
from pyrolvm.nn.one_hot import OneHotHead

NETWORKS = ("mlp", "conv")
CHANNELS = (32, 64)


class LayeredGuide(StandardisingGuide):
    """A guide for a hierarchy; a subclass says in which order, and from what, layers are drawn.

    Args:
        model: Any object with several latent layers.

    Attributes:
        sites: Names of the layers, top first.
        layer_dims: Width of each layer by name.

    Raises:
        IncompatiblePairError: If the model lacks what the guide requires.
    """

    requires = (Layered,)

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.sites: tuple[str, ...] = tuple(model.latent_sites)
        self.layer_dims: dict[str, int] = dict(model.layer_dims)

    def make_reader(
        self,
        network: str,
        image_shape: Sequence[int] | None,
        channels: Sequence[int],
        activation: str,
    ) -> tuple[nn.Module, int]:
        """Build what the observations pass first, and say how wide its output is.

        Args:
            network: ``"mlp"`` hands them on, ``"conv"`` takes convolutions of images.
            image_shape: Channels, height and width; the model's own where it is None.
            channels: Channels after each convolution.
            activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

        Raises:
            UnknownNameError: If there is no such network or activation.
            SettingError: If the images do not fit.
        """
        if network not in NETWORKS:
            raise UnknownNameError("network", network, NETWORKS)
        if network == "mlp":
            return nn.Identity(), self.obs_dim
        shape = getattr(self.model, "image_shape", None) if image_shape is None else image_shape
        shape = checked_image_shape(shape, channels, self.obs_dim)
        reader = ImageEncoder(shape, channels, activation)
        return reader, reader.out_dim

    def make_head(
        self, site: str, in_dim: int, hidden: Sequence[int], activation: str
    ) -> nn.Module:
        """Build the network into q of one layer, which starts near the standard normal.

        A top layer whose prior is one-hot gets one-hot draws that gradients pass through.
        """
        dim = self.layer_dims[site]
        if site == self.sites[0] and self.has_one_hot_top:
            return OneHotHead(in_dim, hidden, dim, activation)
        return GaussianHead(in_dim, hidden, dim, activation, shrink_mean=True)

    @property
    def has_one_hot_top(self) -> bool:
        """Whether the prior of the model's top layer is over one-hot vectors."""
        prior = self.model.layer_prior(self.sites[0], {})
        return prior.support is constraints.one_hot
