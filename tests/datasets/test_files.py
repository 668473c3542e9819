import numpy as np
import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.datasets import from_file

ROWS = np.array([[0.0, 0.5], [1.0, 2.0], [3.0, 4.5]])


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


class TestNpy:
    def test_rows_are_read_in_single_precision(self, tmp_path):
        np.save(tmp_path / "a.npy", ROWS)
        data = from_file(tmp_path / "a.npy")
        torch.testing.assert_close(data.train, torch.from_numpy(ROWS).float())
        assert data.kind == "continuous"
        assert data.test is None
        assert data.image_shape is None

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16])
    def test_kind_is_read_off_the_values(self, dtype, tmp_path):
        np.save(tmp_path / "a.npy", np.eye(3, dtype=dtype))
        assert from_file(str(tmp_path / "a.npy")).kind == "binary"

    def test_rows_with_two_axes_are_images(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((5, 4, 3)))
        data = from_file(tmp_path / "a.npy")
        assert data.train.shape == (5, 12)
        assert data.image_shape == (4, 3)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros(3), r"shape \(3,\).*save array\[:, None\]"),
            (np.zeros((0, 3)), "no numbers"),
            (np.array([[1.0, np.nan]]), "row 0, column 1"),
            (np.array([[1.0, 1e300]]), "NaN or infinite"),
            (np.array([["a", "b"]]), "real numbers"),
            (np.array([[1j]]), "real numbers"),
        ],
    )
    def test_unusable_rows_are_refused_with_the_file(self, array, message, tmp_path):
        np.save(tmp_path / "bad.npy", array)
        with pytest.raises(DataError, match=rf"(?s)bad\.npy.*{message}"):
            from_file(tmp_path / "bad.npy")

    def test_pickle_is_never_loaded(self, tmp_path):
        np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match="pickle"):
            from_file(tmp_path / "bad.npy")

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00"])
    @pytest.mark.parametrize("name", ["bad.npy", "bad.npz"])
    def test_another_kind_of_file_is_refused(self, content, name, tmp_path):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} cannot be read.*damaged") as caught:
            from_file(tmp_path / name)
        assert "allow_pickle" not in str(caught.value)


class TestNpz:
    @pytest.mark.parametrize("key", ["x", "train", "anything"])
    def test_rows_are_found(self, key, tmp_path):
        data = from_file(saved(tmp_path / "a.npz", **{key: ROWS}))
        torch.testing.assert_close(data.train, torch.from_numpy(ROWS).float())

    def test_rows_held_out_are_found(self, tmp_path):
        data = from_file(saved(tmp_path / "a.npz", train=ROWS, test=ROWS[:1], labels=np.zeros(3)))
        assert data.test is not None
        assert data.test.shape == (1, 2)

    def test_image_shape_may_be_given(self, tmp_path):
        data = from_file(saved(tmp_path / "a.npz", x=np.zeros((2, 12)), shape=np.array([3, 4])))
        assert data.image_shape == (3, 4)

    def test_packed_bits_are_unpacked(self, tmp_path):
        bits = np.random.default_rng(0).integers(0, 2, (6, 11), dtype=np.uint8)
        packed = np.packbits(bits, axis=1)
        data = from_file(
            saved(tmp_path / "a.npz", train=packed, test=packed, packed=True, n_features=11)
        )
        np.testing.assert_array_equal(data.train, bits)
        np.testing.assert_array_equal(data.test, bits)
        assert data.kind == "binary"

    def test_packed_bits_without_their_number_are_refused(self, tmp_path):
        with pytest.raises(DataError, match="n_features"):
            from_file(saved(tmp_path / "a.npz", train=np.zeros((2, 1), np.uint8), packed=True))

    def test_validation_rows_and_labels_are_found(self, tmp_path):
        arrays = {"valid": ROWS[:2], "test": ROWS[1:], "labels_train": np.array([3, 1, 2], "u1")}
        data = from_file(
            saved(tmp_path / "a.npz", train=ROWS, labels_valid=np.array([1, 0]), **arrays)
        )
        assert data.valid.shape == (2, 2)
        assert data.train_labels.tolist() == [3, 1, 2]
        assert data.valid_labels.tolist() == [1, 0]
        assert data.test_labels is None

    def test_labels_that_are_no_whole_numbers_are_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"a\.npz needs whole numbers as its train labels"):
            from_file(
                saved(tmp_path / "a.npz", train=ROWS, labels_train=np.array(["a", "b", "c"]))
            )

    @pytest.mark.parametrize(
        "changes",
        [{"n_features": 12}, {"n_features": 0}, {"train": np.zeros((2, 1))}],
        ids=["too-many", "none", "no-bytes"],
    )
    def test_bits_that_cannot_be_unpacked_are_refused(self, changes, tmp_path):
        arrays = {"train": np.zeros((2, 1), np.uint8), "packed": True, "n_features": 8}
        with pytest.raises(DataError, match=r"a\.npz needs packed bits"):
            from_file(saved(tmp_path / "a.npz", **(arrays | changes)))

    @pytest.mark.parametrize("keys", [("a", "b"), ("x", "train"), ()])
    def test_file_that_does_not_say_which_rows_is_refused(self, keys, tmp_path):
        with pytest.raises(DataError, match=r"a\.npz needs its rows under one of the keys 'x'"):
            from_file(saved(tmp_path / "a.npz", **dict.fromkeys(keys, ROWS)))

    def test_truncated_file_is_refused(self, tmp_path):
        path = saved(tmp_path / "a.npz", x=ROWS)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(DataError, match=r"a\.npz cannot be read"):
            from_file(path)


class TestCsv:
    @pytest.mark.parametrize("header", ["", "first,second\n", "\ufefffirst, second\n"])
    def test_header_may_be_there_or_not(self, header, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text(header + "0,0.5\n1,2\n3,4.5\n", encoding="utf-8")
        torch.testing.assert_close(from_file(path).train, torch.from_numpy(ROWS).float())

    @pytest.mark.parametrize("text", ["1,2\n3,4\n", '"1","2"\n3,4\n', "\n 1 , 2 \n3,4\n"])
    def test_a_first_row_of_numbers_is_kept(self, text, tmp_path):
        (tmp_path / "a.csv").write_text(text)
        assert from_file(tmp_path / "a.csv").train.tolist() == [[1.0, 2.0], [3.0, 4.0]]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "cannot be read"),
            ("a,b\n", "text or nothing|no numbers"),
            ("a,b\n1,x\n", r"row 0, column 1 \(b\) holds 'x'"),
            ("1,2\n3,4\n5,oops\n", "row 2, column 1 holds 'oops'"),
            ("1,x\n2,3\n", "row 0, column 1 holds 'x'"),
            ("1,2\n3,\n", "row 1, column 1"),
            ("1,2\n3,4,5\n", "cannot be read"),
            (",a\n0,1.5\n1,2.5\n", "row index"),
        ],
    )
    def test_unusable_table_is_refused_with_the_file(self, text, message, tmp_path):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(DataError, match=rf"bad\.csv.*({message})"):
            from_file(tmp_path / "bad.csv")


def test_other_suffix_and_missing_file_are_refused(tmp_path):
    (tmp_path / "a.mat").write_text("")
    with pytest.raises(DataError, match=r"ends in '\.mat'"):
        from_file(tmp_path / "a.mat")
    with pytest.raises(DataError, match="is no file"):
        from_file(tmp_path / "a.npy")
