import numpy as np
import pytest

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.files import PARTS
from pyrolvm.datasets.splits import Splits, read_splits, row_checksum, write_splits

RANDOM = np.random.default_rng(0)
ROWS = {
    part: RANDOM.integers(0, 2, (size, 11), np.uint8)
    for part, size in zip(PARTS, (6, 3, 4), strict=True)
}


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_written_splits_are_read_again(tmp_path):
    labels = {"train": np.arange(6), "test": np.arange(4)}
    write_splits(tmp_path / "new" / "a.npz", Splits(ROWS, labels), (11, 1))
    read = read_splits(tmp_path / "new" / "a.npz")
    for part in PARTS:
        np.testing.assert_array_equal(read.rows[part], ROWS[part])
    assert {part: each.tolist() for part, each in read.labels.items()} == {
        "train": [0, 1, 2, 3, 4, 5],
        "test": [0, 1, 2, 3],
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npz"]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("suffix", ["", "_data"])
def test_numbers_that_are_not_packed_are_read(dtype, suffix, tmp_path):
    arrays = {f"{part}{suffix}": rows.astype(dtype) for part, rows in ROWS.items()}
    read = read_splits(saved(tmp_path / "a.npz", inputsize=11, train_length=6, **arrays))
    for part in PARTS:
        np.testing.assert_array_equal(read.rows[part], ROWS[part])
        assert read.rows[part].dtype == np.uint8


def test_python_objects_beside_the_rows_are_never_touched(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, inputsize=np.array([{"a": 1}], dtype=object), allow_pickle=True, **ROWS)
    assert read_splits(path).rows.keys() == set(PARTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid": np.full((2, 11), 2)}, "0 and 1 only.*valid rows"),
        ({"test": np.full((2, 11), 0.5)}, "0 and 1 only.*test rows"),
        ({"test": np.zeros(11)}, r"test rows.*\(11,\)"),
        ({"train": np.array([["a"]])}, "train rows"),
        ({"packed": True}, "n_features"),
        ({"packed": True, "n_features": 99}, "99 a row"),
        ({"labels_train": np.full(6, 0.5)}, "whole numbers.*float64"),
    ],
)
def test_other_contents_are_refused(changes, message, tmp_path):
    with pytest.raises(DataError, match=rf"bad\.npz.*{message}"):
        read_splits(saved(tmp_path / "bad.npz", **(ROWS | changes)))


def test_missing_split_is_named(tmp_path):
    with pytest.raises(DataError, match=r"bad\.npz needs rows.*none under 'valid'"):
        read_splits(saved(tmp_path / "bad.npz", train=ROWS["train"], test=ROWS["test"]))


def test_checksum_sees_rows_and_not_their_order():
    rows = ROWS["train"]
    assert row_checksum(rows) == row_checksum(rows[RANDOM.permutation(len(rows))])
    changed = rows.copy()
    changed[2, 3] ^= 1
    assert row_checksum(changed) != row_checksum(rows)
    assert row_checksum(rows[:, ::-1]) != row_checksum(rows)
    assert row_checksum(np.concatenate([rows, rows[:1]])) != row_checksum(rows)


def test_checksum_is_that_of_the_sorted_array():
    import hashlib

    rows = ROWS["train"]
    by_column = rows[np.lexsort(rows.T[::-1])]
    assert row_checksum(rows) == hashlib.sha256(by_column.tobytes()).hexdigest()
