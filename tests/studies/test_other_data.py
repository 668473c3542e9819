"""A study on some of its data sets, or on others."""

from __future__ import annotations

import pytest

from pyrolvm.core import PyroLVMError
from pyrolvm.core.errors import SettingError
from pyrolvm.studies import Study

TEXT = """name = "mine"
[common]
guide = "exact-cpa"
[[grid]]
data = ["circle", "wave"]
model = "cpa-generator:1:4"
[[grid]]
data = "digits"
model = {name = "cpa-generator", latent_dim = 1, hidden = [[8]], obs_dim = 64}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "mine.toml").write_text(TEXT, encoding="utf-8")
    return Study.from_toml(tmp_path / "mine.toml")


def data_of(study):
    return [cell.configuration["data"] for cell in study.cells]


def test_named_data_keep_the_blocks_that_name_them(study):
    assert data_of(study.with_data("wave")) == ["wave"]
    assert data_of(study.with_data("digits", "circle")) == ["circle", "digits"]


def test_cells_stay_the_same_cells(study):
    keys = [{cell.key for cell in each.cells} for each in (study.with_data("wave"), study)]
    assert keys[0] < keys[1]


def test_data_that_no_block_names_stand_in_every_block(study):
    found = study.with_data("digits:3").cells
    assert [c.configuration["data"] for c in found] == ["digits:3", "digits:3"]
    assert [c.configuration["model"]["hidden"] for c in found] == [[4], [8]]


def test_data_that_a_block_cannot_take_are_refused_with_its_line(study):
    with pytest.raises(PyroLVMError, match=r"^With the data spiral: mine\.toml, line 9: .*64"):
        study.with_data("spiral")


def test_an_unknown_name_names_the_nearest(study):
    with pytest.raises(PyroLVMError, match=r"With the data circel: .*Did you mean 'circle'"):
        study.with_data("circel")


@pytest.mark.parametrize("data", [(), ("",), ("wave", "wave")])
def test_none_or_the_same_twice_is_refused(study, data):
    with pytest.raises(SettingError, match="one data set or several different ones"):
        study.with_data(*data)


def test_the_truth_of_a_study_makes_its_rows_itself(tiny):
    truth = {"name": "linear-gaussian", "latent_dim": 1, "obs_dim": 2}
    with pytest.raises(PyroLVMError, match=r"A truth makes simulated rows"):
        tiny(truth=truth).with_data("circle")
