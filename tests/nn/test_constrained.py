"""Networks that keep a constraint: Lipschitz constant, orthonormal columns, slopes."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core.errors import SettingError
from pyrolvm.nn.lipschitz import TANH_BEND, LipschitzNetwork, single_width
from pyrolvm.nn.orthonormal import OrthonormalColumns, random_orthonormal
from pyrolvm.nn.smooth_leaky import SmoothLeaky


def test_the_bend_of_tanh():
    t = torch.linspace(-3, 3, 100_001, dtype=torch.float64)
    second = -2 * t.tanh() * (1 - t.tanh() ** 2)
    assert second.abs().max().item() == pytest.approx(TANH_BEND, rel=1e-8)


@pytest.mark.parametrize("widths", [(2, 8, 2), (3, 2, 5), (1, 1, 1), (4, 16, 2)])
def test_a_network_starts_with_the_constant_that_it_may_have(widths):
    network = LipschitzNetwork(*widths, constant=0.7).double()
    product = torch.linalg.matrix_norm(network.output_weight, 2)
    product = product * torch.linalg.matrix_norm(network.input_weight, 2)
    assert product.item() == pytest.approx(0.7, rel=1e-5)


def test_weights_within_the_constant_are_used_as_they_are():
    network = LipschitzNetwork(2, 8, 2, constant=0.7).double()
    with torch.no_grad():
        network.output_weight.mul_(0.5)
    z = torch.randn(5, 2).double()
    inner = torch.tanh(z @ network.input_weight.T + network.input_bias)
    assert_close(network(z), inner @ network.output_weight.T)


def test_units_are_driven_as_far_as_asked():
    network = LipschitzNetwork(2, 4096, 2, constant=0.7, input_scale=3.0)
    reached = torch.randn(500, 2) @ network.input_weight.T
    assert reached.square().mean().sqrt().item() == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("shape", [(5, 2), (3, 3), (2, 5)])
def test_columns_or_rows_are_orthonormal(shape):
    matrix = random_orthonormal(*shape)
    gram = matrix.T @ matrix if shape[0] >= shape[1] else matrix @ matrix.T
    assert_close(gram, torch.eye(min(shape)), rtol=0, atol=1e-6)
    assert matrix.is_contiguous()


def test_a_step_of_the_free_matrix_moves_smoothly():
    columns = OrthonormalColumns(5, 2).double()
    before = columns().detach()
    assert_close(before, columns.free.detach(), rtol=0, atol=1e-6)
    with torch.no_grad():
        columns.free.add_(1e-6 * torch.randn_like(columns.free))
    assert (columns().detach() - before).abs().max() < 1e-5


def test_more_columns_than_rows_are_refused():
    with pytest.raises(SettingError, match="3 orthonormal columns need"):
        OrthonormalColumns(2, 3)


def test_slopes_lie_between_the_leak_and_one():
    t = torch.linspace(-9, 9, 401, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(SmoothLeaky(0.2)(t).sum(), t)[0]
    assert 0.2 - 1e-12 < slope.min() < 0.201
    assert 0.999 < slope.max() < 1 + 1e-12


@pytest.mark.parametrize("hidden", [(8, 8), ()])
def test_only_one_hidden_layer_is_taken(hidden):
    assert single_width(8) == single_width((8,)) == 8
    with pytest.raises(SettingError, match=f"asks for {len(hidden)}"):
        single_width(hidden)
