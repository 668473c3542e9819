"""The base of guides for models with several latent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from pyrolvm.amortization.standardising_guide import StandardisingGuide
from pyrolvm.core import Layered
from pyrolvm.core.errors import UnknownNameError
from pyrolvm.core.layer_laws import first_layer_beyond, layer_laws, values_of
from pyrolvm.nn.bernoulli_head import BernoulliHead
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
        layer_values: What values each layer takes, by name.

    Raises:
        IncompatiblePairError: If the model lacks what the guide requires, or a layer has discrete
            values other than zeros and ones, and one-hot vectors.
    """

    requires = (Layered,)

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.sites: tuple[str, ...] = tuple(model.latent_sites)
        self.layer_dims: dict[str, int] = dict(model.layer_dims)
        self.layer_values = {site: values_of(law) for site, law in layer_laws(model).items()}

    @classmethod
    def obstacle(cls, model: Any) -> str | None:
        """Refuse layers of discrete values other than zeros and ones, and one-hot vectors."""
        found = first_layer_beyond(model, "real", "binary", "one-hot")
        reason = f"{cls.__name__} serves layers that are real, of zeros and ones, or one-hot"
        return None if found is None else f"{reason}, but {found}"

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
        """Build the network into q of one layer, over the values that its prior is over.

        Real layers get Gaussians that start near the standard normal, layers of zeros and ones
        get independent units, and one-hot layers get draws that gradients pass through.
        """
        dim, values = self.layer_dims[site], self.layer_values[site]
        if values == "binary":
            return BernoulliHead(in_dim, hidden, dim, activation)
        if values == "one-hot":
            return OneHotHead(in_dim, hidden, dim, activation)
        return GaussianHead(in_dim, hidden, dim, activation, shrink_mean=True)
