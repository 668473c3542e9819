"""A list is an axis, inside tables too."""

from __future__ import annotations

import itertools

import pytest

from pyrolvm.core.errors import SettingError
from pyrolvm.studies import Study
from pyrolvm.studies.grid import expand


def test_a_block_is_the_product_of_its_axes():
    found = list(expand({"a": [1, 2], "b": ["x", "y", "z"], "c": 0}))
    wanted = [{"a": a, "b": b, "c": 0} for a, b in itertools.product((1, 2), "xyz")]
    assert found == wanted


def test_tables_in_a_list_have_axes_of_their_own():
    found = list(expand({"guide": ["exact", {"name": "full", "hidden": [[8], [8, 8]]}]}))
    wanted = ["exact", {"name": "full", "hidden": [8]}, {"name": "full", "hidden": [8, 8]}]
    assert [each["guide"] for each in found] == wanted


def test_an_axis_without_values_is_refused():
    with pytest.raises(SettingError, match=r"seed is an empty list.*seed = \[\[\]\]"):
        list(expand({"seed": []}))


def test_a_cell_that_two_blocks_name_is_there_once(tiny):
    block = tiny(seed=[0, 1]).grid[0]
    study = Study("union", [block, {**block, "seed": [1, 2]}])
    assert [cell.configuration["seed"] for cell in study.cells] == [0, 1, 2]


@pytest.mark.parametrize(
    "guide",
    [
        "full:affine",
        "amortized:full:affine",
        {"name": "amortized:affine", "family": "full"},
        {"name": "amortized", "family": "full", "hidden": [[]], "activation": "relu"},
        {"name": "full", "hidden": [[]], "standardise": True},
    ],
)
def test_two_ways_to_write_the_same_cell_give_the_same_hash(tiny, guide):
    (cell,) = tiny(guide=guide).cells
    assert cell.key == tiny().cells[0].key


def test_a_whole_number_stands_for_a_real_one(tiny):
    first, second = tiny(learning_rate=[1, 1.0]), tiny(learning_rate=1.0)
    assert [cell.key for cell in first.cells] == [cell.key for cell in second.cells]


def test_every_setting_makes_a_cell_of_its_own(tiny):
    changes = {
        "objective": "forward-kl", "data": "simulated:21", "seed": 1, "model_seed": 1,
        "steps": 3, "batch_size": 5, "learning_rate": 0.1, "num_particles": 2, "restarts": 2,
        "train": "both", "model_steps": 1, "test_size": 5, "particles": 21, "oracle_steps": 1,
        "model": "linear-gaussian:1:obs_dim=3", "guide": "exact",
    }  # fmt: skip
    keys = {tiny(**{name: value}).cells[0].key for name, value in changes.items()}
    assert len(keys - {tiny().cells[0].key}) == len(changes)
