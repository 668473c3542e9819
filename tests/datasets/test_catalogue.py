import numpy as np
import pytest

from pyrolvm import datasets
from pyrolvm.core.errors import DataError, UnknownNameError

OFFLINE = [row for row in datasets.describe() if row.origin != "fetched"]


@pytest.mark.parametrize("row", OFFLINE, ids=lambda row: row.name)
def test_description_agrees_with_the_data(row):
    data = datasets.load(row.name)
    assert data.name == row.name
    assert data.size == row.rows
    assert data.dim == row.dim
    assert data.kind == row.kind
    assert data.licence == row.licence
    assert data.source


def test_describe_lists_every_name():
    assert tuple(row.name for row in datasets.describe()) == datasets.names()


@pytest.mark.parametrize("row", OFFLINE, ids=lambda row: row.name)
def test_seed_reaches_the_data(row):
    first, second = (datasets.load(row.name, seed=seed).train for seed in (0, 1))
    assert not first.equal(second)


def test_path_is_loaded(tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(3))
    assert datasets.load(tmp_path / "rows.npy").train.shape == (3, 3)
    assert datasets.load(str(tmp_path / "rows.npy")).dim == 3


def test_unknown_name_hints_at_the_nearest():
    with pytest.raises(UnknownNameError, match=r"data set 'digts'.*'digits'"):
        datasets.load("digts")
    with pytest.raises(UnknownNameError, match="'circle'"):
        datasets.fetch("cirle")


@pytest.mark.parametrize("name", ["missing.csv", "folder/rows"])
def test_path_that_does_not_exist_is_no_unknown_name(name):
    with pytest.raises(DataError, match="is no file"):
        datasets.load(name)


def test_embedded_and_synthetic_sets_have_nothing_to_fetch():
    assert [datasets.fetch(row.name) for row in OFFLINE] == [()] * len(OFFLINE)


def test_fetched_set_says_whether_it_is_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PYROLVM_DATA", str(tmp_path))
    place = {row.name: row.place for row in datasets.describe()}["fashion_mnist"]
    assert place == f"{tmp_path / 'fashion-mnist'} (not fetched yet)"
