"""Networks into the log odds of binary units."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.nn.bernoulli_head import BernoulliHead
from pyrolvm.nn.bernoulli_layer import BernoulliLayer


@pytest.mark.parametrize(("in_dim", "dim"), [(100, 70), (7, 40), (1, 1)])
def test_weights_fill_the_range_that_they_start_in(in_dim: int, dim: int) -> None:
    torch.manual_seed(0)
    (layer,) = BernoulliLayer(in_dim, dim).network
    bound = math.sqrt(6 / (in_dim + dim)) / in_dim
    assert isinstance(layer, nn.Linear)
    assert layer.weight.abs().max() <= bound
    if layer.weight.numel() > 100:
        assert layer.weight.abs().max() > 0.98 * bound
        assert layer.weight.square().mean().item() == pytest.approx(bound**2 / 3, rel=0.15)
    assert (layer.bias == -1).all()


def test_a_layer_is_affine_in_its_input() -> None:
    layer = BernoulliLayer(3, 2)
    (affine,) = layer.network
    values = torch.randn(4, 5, 3)
    assert isinstance(affine, nn.Linear)
    assert_close(layer(values), values @ affine.weight.T + affine.bias)
    on = layer(values).sigmoid()
    assert_close(layer.distribution(values).mean, on)


def test_deterministic_layers_are_as_wide_as_the_mean_of_both_ends() -> None:
    layer = BernoulliLayer(9, 4, num_deterministic=2)
    shapes = [tuple(part.weight.shape) for part in layer.network if isinstance(part, nn.Linear)]
    assert shapes == [(7, 9), (7, 7), (4, 7)]
    assert [type(part) for part in layer.network][1::2] == [nn.Tanh, nn.Tanh]
    last = layer.network[-1]
    assert isinstance(last, nn.Linear)
    assert last.weight.abs().max() <= math.sqrt(6 / 11) / 7


@pytest.mark.parametrize(
    ("arguments", "part"),
    [((0, 2), "in_dim"), ((2, 0), "dim should be"), ((2, 2, -1), "num_deterministic")],
)
def test_a_number_out_of_range_is_refused(arguments: tuple[int, ...], part: str) -> None:
    with pytest.raises(SettingError, match=part):
        BernoulliLayer(*arguments)


def test_a_head_starts_mostly_off_whatever_the_input() -> None:
    torch.manual_seed(0)
    on = BernoulliHead(5, (16,), 3)(torch.randn(200, 5)).mean
    assert on.shape == (200, 3)
    assert_close(on, torch.full_like(on, -1.0).sigmoid(), rtol=0, atol=0.05)
    with pytest.raises(UnknownNameError, match="Did you mean 'relu'"):
        BernoulliHead(5, (16,), 3, "rely")
