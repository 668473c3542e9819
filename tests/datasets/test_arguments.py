"""Arguments of a person's own program, from a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.arguments import read_arguments


def program(y, sigma=None):
    """Takes two columns."""


def test_arrays_are_the_arguments_by_name(tmp_path):
    np.savez(tmp_path / "d.npz", y=np.arange(3.0), sigma=np.arange(3), is_new=np.ones(3, bool))
    found = read_arguments(tmp_path / "d.npz", program)
    assert {name: value.dtype for name, value in found.items()} == {
        "y": torch.float32,
        "sigma": torch.int64,
        "is_new": torch.bool,
    }
    assert found["y"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_a_single_array_is_the_first_argument(tmp_path, name):
    rows = np.arange(6.0).reshape(3, 2)
    if name.endswith("z"):
        np.savez(tmp_path / name, anything=rows)
    else:
        np.save(tmp_path / name, rows)
    assert read_arguments(tmp_path / name, program).tolist() == rows.tolist()


def test_columns_named_after_arguments_are_arguments(tmp_path):
    (tmp_path / "d.csv").write_text("y,sigma\n28,15\n8,10\n")
    found = read_arguments(tmp_path / "d.csv", program)
    assert {name: value.tolist() for name, value in found.items()} == {
        "y": [28, 8],
        "sigma": [15, 10],
    }


@pytest.mark.parametrize("header", ["a,b\n", ""])
def test_any_other_table_is_one_matrix(tmp_path, header):
    (tmp_path / "d.csv").write_text(f"{header}1,2\n3,4.5\n")
    assert read_arguments(tmp_path / "d.csv", program).tolist() == [[1.0, 2.0], [3.0, 4.5]]


def test_the_forward_of_a_module_names_its_arguments(tmp_path):
    class Model(torch.nn.Module):
        def forward(self, y):
            return y

    (tmp_path / "d.csv").write_text("y\n1.5\n2.5\n")
    assert read_arguments(tmp_path / "d.csv", Model()).tolist() == [1.5, 2.5]


def test_objects_are_refused_unread(tmp_path):
    np.savez(tmp_path / "d.npz", y=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="pickle and are refused"):
        read_arguments(tmp_path / "d.npz", program)


@pytest.mark.parametrize(
    ("array", "message"), [(np.array(["a"]), "needs numbers"), (np.array([1j]), "complex128")]
)
def test_what_is_no_number_is_refused(tmp_path, array, message):
    np.save(tmp_path / "d.npy", array)
    with pytest.raises(DataError, match=message):
        read_arguments(tmp_path / "d.npy", program)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no file"):
        read_arguments(tmp_path / "d.npz", program)
