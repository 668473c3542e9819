"""Convolutional networks of flat images."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.nn.convolutions import ImageDecoder, ImageEncoder, checked_image_shape


def test_the_encoder_is_a_stack_of_convolutions_of_each_image() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder((3, 8, 12), (4, 5), "tanh")
    x = torch.randn(2, 6, 3 * 8 * 12)
    first, _, second, _ = encoder.layers
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    image = x[1, 2].reshape(1, 3, 8, 12)
    assert_close(encoder(x)[1, 2], second(first(image).tanh()).tanh().flatten())
    assert encoder.out_dim == 5 * 2 * 3


def test_a_pixel_reaches_only_its_neighbourhood() -> None:
    """The last layer is linear, so that each image is a sum of local patches."""
    torch.manual_seed(0)
    decoder = ImageDecoder(2, (1, 16, 16), (3, 4))
    features = torch.zeros(2, 3, 8, 8)
    features[1, :, 1, 1] = 1
    plain, changed = decoder.layers[-1](features)
    moved = (plain != changed)[0].nonzero()
    assert moved.min() >= 1
    assert moved.max() <= 4


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_leading_dimensions_are_kept(batch: tuple[int, ...]) -> None:
    image = ImageDecoder(3, (2, 4, 4), (4,))(torch.zeros(*batch, 3))
    assert image.shape == (*batch, 32)
    assert ImageEncoder((2, 4, 4), (4,))(image).shape == (*batch, 16)


@pytest.mark.parametrize(
    ("shape", "channels", "obs_dim", "part"),
    [
        (None, (4,), None, r"need image_shape=\(channels, height, width\)"),
        ((8, 8), (4,), None, "need image_shape"),
        ((1, 8, 8), (4,), 63, "have 64 values, but an observation has 63"),
        ((1, 8, 6), (4, 4), None, "2 convolutions .* the images are 8 x 6"),
        ((1, 8, 8), (), None, "num_convolutions should be at least 1"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, channels, obs_dim, part) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingError, match=part):
        checked_image_shape(shape, channels, obs_dim)


def test_unknown_activations_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'silu'"):
        ImageEncoder((1, 8, 8), (4,), "silo")
