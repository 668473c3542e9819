"""Small networks: layers, noise with a floor, parameters by row."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyrolvm.core import DataError, UnknownNameError
from pyrolvm.nn import ACTIVATIONS, Abs, mlp
from pyrolvm.nn.noise import LearnedScale
from pyrolvm.nn.row_table import RowTable


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layers_alternate_with_the_activation(activation):
    net = mlp(2, (3, 4), 5, activation)
    widths = [layer.out_features for layer in net if isinstance(layer, nn.Linear)]
    assert widths == [3, 4, 5]
    assert isinstance(net[-1], nn.Linear)
    assert net(torch.zeros(7, 6, 2)).shape == (7, 6, 5)


def test_no_hidden_layer_makes_it_affine():
    assert [type(layer) for layer in mlp(2, (), 3)] == [nn.Linear]


def test_the_absolute_value():
    assert Abs()(torch.tensor([-2.0, 3.0])).tolist() == [2.0, 3.0]


def test_an_unknown_activation_gets_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'relu'"):
        mlp(2, (3,), 4, "relo")


@pytest.mark.parametrize("hidden", [(0,), (-1,), (2.5,)])
def test_widths_are_positive_whole_numbers(hidden):
    with pytest.raises(ValueError, match="positive whole numbers"):
        mlp(2, hidden, 4)


class TestLearnedScale:
    @pytest.mark.parametrize("learn", [True, False])
    def test_it_starts_where_it_should(self, learn):
        scale = LearnedScale(0.3, 4, learn=learn)
        torch.testing.assert_close(scale(), torch.full((4,), 0.3))
        assert len(list(scale.parameters())) == learn

    def test_a_learned_one_stays_above_its_floor(self):
        scale = LearnedScale(0.3)
        with torch.no_grad():
            scale.raw.fill_(-200.0)
        assert scale().item() == pytest.approx(1e-3)

    def test_a_fixed_one_may_be_as_small_as_wanted(self):
        assert LearnedScale(1e-5, learn=False)().item() == pytest.approx(1e-5)

    @pytest.mark.parametrize("scale", [0.0, -1.0, 1e-3, float("nan"), float("inf")])
    def test_what_is_no_scale_is_refused(self, scale):
        with pytest.raises(ValueError, match="larger than its floor"):
            LearnedScale(scale)


class TestRowTable:
    @pytest.fixture
    def table(self):
        table = RowTable()
        table.fill(torch.arange(6.0).reshape(3, 2), torch.arange(3.0)[:, None])
        return table

    def test_rows_are_found_in_any_order(self, table):
        assert table.look_up(table.rows[[2, 0]]).flatten().tolist() == [2.0, 0.0]

    def test_equal_rows_share_the_first_ones_parameters(self):
        table = RowTable()
        table.fill(torch.ones(3, 2), torch.arange(3.0)[:, None])
        assert table.look_up(torch.ones(3, 2)).flatten().tolist() == [0.0, 0.0, 0.0]
        assert table.look_up(torch.ones(1, 2)).flatten().tolist() == [0.0]

    def test_minus_zero_is_zero(self):
        table = RowTable()
        table.fill(torch.zeros(1, 2), torch.ones(1, 1))
        assert table.look_up(torch.tensor([[-0.0, 0.0], [0.0, 0.0]])).shape == (2, 1)

    def test_double_precision_rows_are_found(self, table):
        assert table.look_up(table.rows[1:].double()).flatten().tolist() == [1.0, 2.0]

    def test_unknown_rows_are_counted_and_the_first_named(self, table):
        with pytest.raises(DataError, match=r"1 of the 2 given rows \(the first is row 1\)"):
            table.look_up(torch.stack([table.rows[0], torch.full((2,), 9.0)]))

    def test_another_number_of_rows_is_loaded(self, table):
        other = RowTable()
        other.load_state_dict(table.state_dict())
        assert other.look_up(table.rows[1:]).flatten().tolist() == [1.0, 2.0]
