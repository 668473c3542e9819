"""Convolutional networks between flat images and vectors, for any leading dimensions.

Each convolution of the encoder halves height and width, each one of the decoder doubles them
(kernels of 4 with stride 2, as in many autoencoders of small images). Data stay flat: the networks
reshape inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.core.errors import SettingError, UnknownNameError, require_at_least
from pyrolvm.nn.mlp import ACTIVATIONS


class ImageEncoder(nn.Module):
    """Convolutions from a flat image to a vector of features.

    Args:
        image_shape: Channels, height and width of an image.
        channels: Channels after each convolution, near the image first.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    Attributes:
        out_dim: Number of features.

    Raises:
        SettingError: If height or width cannot be halved so often.
        UnknownNameError: If there is no such activation.

    >>> import torch
    >>> ImageEncoder((1, 8, 8), (4, 8))(torch.zeros(3, 5, 64)).shape
    torch.Size([3, 5, 32])
    """

    def __init__(
        self, image_shape: Sequence[int], channels: Sequence[int], activation: str = "silu"
    ) -> None:
        super().__init__()
        self.image_shape = checked_image_shape(image_shape, channels)
        smallest = _smallest(self.image_shape, channels)
        self.out_dim = math.prod(smallest)
        layers: list[nn.Module] = []
        for fine, coarse in pairwise((self.image_shape[0], *channels)):
            layers += [nn.Conv2d(fine, coarse, 4, stride=2, padding=1), _made(activation)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "*batch pixels"]) -> Float[Tensor, "*batch features"]:
        """Return the features of each image."""
        images = x.reshape(-1, *self.image_shape)
        return self.layers(images).reshape(*x.shape[:-1], self.out_dim)


class ImageDecoder(nn.Module):
    """Transposed convolutions from a vector to a flat image.

    Args:
        in_dim: Width of the vector.
        image_shape: Channels, height and width of an image.
        channels: Channels before each transposed convolution, near the image first.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    Raises:
        SettingError: If height or width is not a multiple of what the layers double to.
        UnknownNameError: If there is no such activation.

    >>> import torch
    >>> ImageDecoder(2, (3, 16, 16), (4, 8))(torch.zeros(3, 5, 2)).shape
    torch.Size([3, 5, 768])
    """

    def __init__(
        self,
        in_dim: int,
        image_shape: Sequence[int],
        channels: Sequence[int],
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.image_shape = checked_image_shape(image_shape, channels)
        self.in_dim = in_dim
        smallest = _smallest(self.image_shape, channels)
        layers: list[nn.Module] = [
            nn.Linear(in_dim, math.prod(smallest)),
            nn.Unflatten(-1, smallest),
        ]
        for coarse, fine in pairwise((*reversed(channels), self.image_shape[0])):
            doubled = nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1)
            layers += [_made(activation), doubled]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch pixels"]:
        """Return the flat image of each vector."""
        images = self.layers(z.reshape(-1, self.in_dim))
        return images.reshape(*z.shape[:-1], math.prod(self.image_shape))


def checked_image_shape(
    image_shape: Sequence[int] | None, channels: Sequence[int], obs_dim: int | None = None
) -> tuple[int, int, int]:
    """Return the shape of an image, if convolutional networks can serve it.

    Args:
        image_shape: Channels, height and width.
        channels: Channels after each convolution.
        obs_dim: Number of values of a flat image, where it is known.

    Raises:
        SettingError: If there is no shape, it has another number of values, or its sides cannot be
            halved as often as there are convolutions.
    """
    if image_shape is None or len(image_shape) != 3:
        raise SettingError(
            "Convolutional networks need image_shape=(channels, height, width), but it is "
            f"{image_shape}. Pass for example image_shape=(1, 28, 28)."
        )
    depth, height, width = image_shape
    require_at_least(1, num_convolutions=len(channels), smallest_side=min(image_shape))
    if obs_dim not in (None, depth * height * width):
        raise SettingError(
            f"Images of shape {tuple(image_shape)} have {depth * height * width} values, but an "
            f"observation has {obs_dim}. The two should be equal."
        )
    if height % 2 ** len(channels) or width % 2 ** len(channels):
        raise SettingError(
            f"{len(channels)} convolutions halve height and width {len(channels)} times, but the "
            f"images are {height} x {width}. Give fewer channels, or pad the images."
        )
    return depth, height, width


def _smallest(image_shape: tuple[int, int, int], channels: Sequence[int]) -> tuple[int, int, int]:
    _, height, width = image_shape
    shrinkage = 2 ** len(channels)
    return channels[-1], height // shrinkage, width // shrinkage


def _made(activation: str) -> nn.Module:
    if activation not in ACTIVATIONS:
        raise UnknownNameError("activation", activation, ACTIVATIONS)
    return ACTIVATIONS[activation]()
