"""Data as arguments: what is taken, and what is refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyrolvm.core import Data, DataError


def test_arrays_become_single_precision_tensors():
    data = Data.of(np.zeros((3, 2)))
    assert data.num_rows == 3
    assert dict(data.items())["x"].dtype == torch.float32


def test_arrays_are_copied_whatever_their_layout():
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    array.flags.writeable = False
    assert Data.of(array[::-1]).args[0].tolist() == [[4, 5], [2, 3], [0, 1]]


def test_tensors_keep_their_type():
    assert Data.of(torch.zeros(3, dtype=torch.float64)).args[0].dtype == torch.float64


def test_a_mapping_is_passed_by_name():
    data = Data.of({"x": torch.zeros(3, 2), "u": torch.ones(3)})
    assert data.call(lambda *, x, u: (x.shape, u.sum().item())) == ((3, 2), 3.0)
    assert data.only is None


@pytest.mark.parametrize("data", [torch.zeros(3, 2), {"x": torch.zeros(3, 2)}])
def test_the_only_tensor(data):
    assert Data.of(data).only.shape == (3, 2)


def test_rows_are_taken_from_every_tensor():
    data = Data.of({"x": torch.arange(4.0), "u": torch.arange(4)}).rows(torch.tensor([3, 1]))
    assert {name: tensor.tolist() for name, tensor in data.items()} == {"x": [3, 1], "u": [3, 1]}


def test_whole_numbers_keep_their_type_when_moved():
    data = Data.of({"x": torch.zeros(2), "u": torch.arange(2)}).to(dtype=torch.float64)
    assert [t.dtype for _, t in data.items()] == [torch.float64, torch.int64]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({}, "mapping is empty"),
        (torch.zeros(0, 3), "no rows"),
        (torch.tensor(1.0), "single number"),
        ({"x": torch.zeros(3), "u": torch.zeros(2)}, r"same number of rows.*'x': 3, 'u': 2"),
        ("digits", "cannot be read"),
        ([[1, 2], [3]], "cannot be read"),
    ],
)
def test_what_is_no_data_is_refused(bad, sentence):
    with pytest.raises(DataError, match=sentence):
        Data.of(bad)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_counted_and_the_first_named(value):
    x = torch.zeros(5, 2)
    x[3, 1] = x[4, 0] = value
    with pytest.raises(DataError, match=r"2 of 5 rows of 'x'.*first: row 3"):
        Data.of(x).check_finite()


def test_only_huge_data_are_hinted_at():
    huge = Data.of({"x": torch.tensor([1.0, -2e30]), "seen": torch.ones(2).bool()})
    assert "reach 2e+30" in huge.size_hint()
    assert Data.of(torch.tensor([1e3, torch.nan])).size_hint() == ""


def test_a_program_that_holds_its_data_takes_no_arguments():
    data = Data.of(None)
    assert data.call(lambda *args, **named: (args, named)) == ((), {})
    assert data.num_rows == 1
    assert data.only is None


def test_what_has_no_rows_is_passed_on_as_it_is():
    given = {"x": torch.arange(4.0), "scale": torch.tensor(2.0), "size": 7, "kind": "wide"}
    few = Data.of(given).rows(torch.tensor([3, 1])).to(dtype=torch.float64)
    assert few.num_rows == 2
    assert dict(few.items()).keys() == {"x"}
    assert few.named["scale"].dtype == torch.float64
    assert (few.named["size"], few.named["kind"]) == (7, "wide")


def test_several_positional_arguments_are_pointed_to_their_names():
    with pytest.raises(DataError, match=r"tuple of 2.*mapping"):
        Data.of((torch.zeros(3), torch.zeros(3)))
