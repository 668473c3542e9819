import numpy as np
import pytest
import xarray as xr

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics.netcdf import load, save

ATTRS = {
    "text": "ü: nats",
    "empty": "",
    "whole": 3,
    "real": 0.1,
    "claim": True,
    "nothing": None,
    "list": [1],
    "nested": {"widths": [64, 64]},
    "huge": 2**70,
    "like_json": "json:not really",
}


@pytest.fixture
def tree():
    values = xr.Dataset(
        {
            "layer.z: 1": (
                ("a b",),
                np.array([1.0, -np.inf, np.nan], np.float32),
                {"unit": "nats"},
            ),
            "flag": (("a b",), np.array([True, False, True])),
            "name": (("a b",), ["x", "", "ü"]),
            "number": ((), 7),
        },
        coords={"a b": ["one", "two", "three"]},
        attrs=ATTRS,
    )
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=ATTRS), "guide: full cov/posterior": values}
    )


def test_round_trip_is_lossless(tree, tmp_path):
    loaded = load(save(tree, tmp_path / "new folder" / "a tree.nc"))
    xr.testing.assert_identical(loaded, tree)
    assert loaded.attrs == ATTRS
    for name, variable in tree["guide: full cov/posterior"].data_vars.items():
        assert loaded["guide: full cov/posterior"][name].dtype == variable.dtype


def test_saving_leaves_the_tree_alone(tree, tmp_path):
    before = tree.copy(deep=True)
    save(tree, tmp_path / "tree.nc")
    xr.testing.assert_identical(tree, before)


def test_loaded_tree_needs_no_file(tree, tmp_path):
    path = save(tree, tmp_path / "tree.nc")
    loaded = load(path)
    path.unlink()
    xr.testing.assert_identical(loaded.copy(deep=True), tree)


def test_loaded_tree_can_replace_its_own_file(tree, tmp_path):
    path = save(tree, tmp_path / "tree.nc")
    save(load(path), path)
    xr.testing.assert_identical(load(path), tree)


def test_failure_while_writing_keeps_the_old_file_and_leaves_no_other(tree, tmp_path):
    path = save(tree, tmp_path / "tree.nc")
    before = path.read_bytes()
    bad = tree.copy()
    bad.attrs["object"] = object()
    with pytest.raises(TypeError, match="JSON"):
        save(bad, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_writing_leaves_no_file(tree, tmp_path, monkeypatch):
    def interrupted(self, path, **kwargs):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.DataTree, "to_netcdf", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tree, tmp_path / "tree.nc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_truncated_file_is_refused_by_name(kept, tree, tmp_path):
    path = save(tree, tmp_path / "tree.nc")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(DataError, match=r"tree\.nc .* cut short"):
        load(path)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "table.nc"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="another kind of file"):
        load(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.nc"):
        load(tmp_path / "nowhere.nc")
