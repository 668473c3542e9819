"""Small sets stand for the published ones, and a server on this machine for their addresses."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrolvm import datasets
from pyrolvm.core.errors import DataError, RunFolderError, UnknownNameError
from pyrolvm.datasets import binary_sets, catalogue
from pyrolvm.datasets.binary_catalogue import BINARY_SETS, BinarySet
from pyrolvm.datasets.binary_sources import Source
from pyrolvm.datasets.files import PARTS
from pyrolvm.datasets.splits import Splits, row_checksum, write_splits

SIZES = (7, 3, 5)
RANDOM = np.random.default_rng(3)
ROWS = {
    part: RANDOM.integers(0, 2, (n, 6), np.uint8) for part, n in zip(PARTS, SIZES, strict=True)
}
TEXTS = tuple(f"toy.{part}.data" for part in PARTS)
NOWHERE = "http://127.0.0.1:9/"  # nothing answers there
REAL = os.environ.get("PYROLVM_DATA_TEST")
INDEPENDENT = {  # mean negative log likelihood of independent entries, nats a test row
    "adult": 25.772,
    "binarized_mnist": 205.793,
    "connect4": 35.338,
    "dna": 100.388,
    "mushrooms": 34.232,
    "nips": 294.802,
    "nltcs": 9.234,
    "ocr_letters": 63.738,
    "web": 39.891,
}


def toy(**changes):
    fields = {
        "name": "toy",
        "sizes": SIZES,
        "dim": 6,
        "checksums": tuple(row_checksum(rows) for rows in ROWS.values()),
        "source": Source(NOWHERE, TEXTS),
    }
    return BinarySet(**(fields | changes))


@pytest.fixture
def use(monkeypatch):
    """Puts a set into the catalogue, in place of all others."""

    def put(known):
        monkeypatch.setattr(binary_sets, "BINARY_SETS", {known.name: known})
        entry = catalogue._published(known)
        monkeypatch.setitem(catalogue.ENTRIES, known.name, entry)

    return put


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROLVM_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def published(tmp_path):
    """A folder with the publisher's files: three texts and one archive."""
    folder = tmp_path / "published"
    put_texts(folder)
    arrays = {f"{part}_data": rows.astype(np.float32) for part, rows in ROWS.items()}
    np.savez(folder / "toy.npz", inputsize=6, **arrays)
    return folder


def put_texts(folder, separator=",", end="\n"):
    folder.mkdir(parents=True)
    for part, rows in ROWS.items():
        lines = [separator.join(map(str, row)) + end for row in rows.tolist()]
        (folder / f"toy.{part}.data").write_bytes("".join(lines).encode())


def assert_rows(data):
    for part, rows in ROWS.items():
        np.testing.assert_array_equal(getattr(data, part), rows)
        assert getattr(data, part).dtype == torch.float32


def place(name="toy"):
    return {row.name: row.place for row in datasets.describe()}[name]


class TestDownload:
    @pytest.mark.parametrize("files", [TEXTS, ("toy.npz",)], ids=["texts", "archive"])
    def test_files_are_fetched_once_checked_and_packed(
        self, files, use, serve, published, cache, monkeypatch
    ):
        use(toy(source=Source(serve(published), files)))
        assert place() == f"{cache / 'toy.npz'} (not fetched yet)"
        assert_rows(datasets.load("toy"))
        assert [path.name for path in cache.iterdir()] == ["toy.npz"]
        use(toy(source=Source(NOWHERE, files)))
        assert_rows(datasets.load("toy"))
        assert place() == str(cache / "toy.npz")

    def test_fetch_gives_the_packed_file(self, use, serve, published, cache):
        use(toy(source=Source(serve(published), TEXTS)))
        assert datasets.fetch("toy") == (cache / "toy.npz",)
        assert datasets.fetch("toy") == (cache / "toy.npz",)

    def test_without_a_network_the_sentence_says_what_goes_where(self, use, cache):
        use(toy())
        with pytest.raises(DataError) as caught:
            datasets.load("toy")
        text = str(caught.value)
        for part in (str(cache), "toy.train.data", NOWHERE, "toy.npz", "PYROLVM_DATA", *TEXTS):
            assert part in text

    def test_file_that_the_server_lacks_is_named(self, use, serve, published, cache):
        (published / "toy.valid.data").unlink()
        use(toy(source=Source(serve(published), TEXTS)))
        with pytest.raises(DataError, match=r"fetching toy\.valid\.data .*404"):
            datasets.load("toy")
        assert not cache.exists()

    def test_page_in_place_of_the_file_is_refused_and_leaves_nothing(
        self, use, serve, published, cache
    ):
        (published / "toy.test.data").write_text("<html>Sign in</html>")
        use(toy(source=Source(serve(published), TEXTS)))
        with pytest.raises(DataError, match=r"http.*toy\.test\.data.*0 and 1 only.*'<html>Sign"):
            datasets.load("toy")
        assert not cache.exists()

    def test_other_rows_are_refused_and_leave_nothing(self, use, serve, published, cache):
        text = (published / "toy.valid.data").read_text()
        (published / "toy.valid.data").write_text(text.translate(str.maketrans("01", "10")))
        use(toy(source=Source(serve(published), TEXTS)))
        with pytest.raises(DataError, match=r"rows of 'toy', but its valid rows.*checksum .*not "):
            datasets.load("toy")
        assert not cache.exists()

    @pytest.mark.parametrize("content", ["", "0,1,1,0,1"])
    def test_cut_off_file_is_refused(self, content, use, serve, published, cache):
        (published / "toy.train.data").write_text(content)
        use(toy(source=Source(serve(published), TEXTS)))
        with pytest.raises(DataError, match=r"toy\.train\.data.*rows of 6 entries.*cut off"):
            datasets.load("toy")

    def test_threads_that_fetch_at_once_agree(self, use, serve, published, cache):
        use(toy(source=Source(serve(published), TEXTS)))
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(datasets.load("toy"))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        for data in found:
            assert_rows(data)
        assert [path.name for path in cache.iterdir()] == ["toy.npz"]


class TestCache:
    @pytest.mark.parametrize(("separator", "end"), [(",", "\n"), (" ", " \r\n"), (" ", "\n")])
    def test_files_of_the_publisher_in_a_folder_of_that_name_serve(
        self, separator, end, use, cache
    ):
        put_texts(cache / "toy", separator, end)
        use(toy())
        assert place() == str(cache / "toy")
        assert_rows(datasets.load("toy"))
        assert (cache / "toy.npz").is_file()

    def test_only_missing_files_of_the_publisher_are_fetched(self, use, serve, published, cache):
        put_texts(cache / "toy")
        (cache / "toy" / "toy.test.data").unlink()
        (published / "toy.train.data").unlink()
        use(toy(source=Source(serve(published), TEXTS)))
        assert_rows(datasets.load("toy"))

    def test_archive_of_the_publisher_serves_as_the_packed_file(self, use, published, monkeypatch):
        monkeypatch.setenv("PYROLVM_DATA", str(published))
        use(toy(source=Source(NOWHERE, ("toy.npz",))))
        assert_rows(datasets.load("toy"))

    def test_rows_in_another_order_are_the_same_set(self, use, cache):
        other = {part: rows[::-1] for part, rows in ROWS.items()}
        write_splits(cache / "toy.npz", Splits(other))
        use(toy())
        np.testing.assert_array_equal(datasets.load("toy").train, ROWS["train"][::-1])

    def test_labels_and_image_shape_come_with_the_rows(self, use, cache):
        labels = {part: np.arange(size) % 2 for part, size in zip(PARTS, SIZES, strict=True)}
        write_splits(cache / "toy.npz", Splits(ROWS, labels), (3, 2))
        use(toy(image_shape=(3, 2)))
        data = datasets.load("toy")
        assert data.image_shape == (3, 2)
        assert data.train_labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
        assert data.valid_labels.tolist() == [0, 1, 0]
        assert data.test_labels.tolist() == [0, 1, 0, 1, 0]
        assert datasets.load("toy:1").valid.shape == (1, 6)

    def test_second_name_of_a_file_is_found(self, use, cache):
        write_splits(cache / "toy_as_published.npz", Splits(ROWS))
        use(toy(other_file="toy_as_published.npz"))
        assert_rows(datasets.load("toy"))
        assert place() == str(cache / "toy_as_published.npz")

    def test_packed_file_of_other_rows_is_refused_and_left_alone(self, use, cache):
        rows = ROWS | {"test": 1 - ROWS["test"]}
        write_splits(cache / "toy.npz", Splits(rows))
        before = (cache / "toy.npz").read_bytes()
        use(toy())
        with pytest.raises(DataError, match=r"toy\.npz should hold.*test rows.*move wrong files"):
            datasets.load("toy")
        assert (cache / "toy.npz").read_bytes() == before

    def test_packed_file_of_another_shape_says_which(self, use, cache):
        write_splits(cache / "toy.npz", Splits(ROWS | {"valid": ROWS["valid"][:2]}))
        use(toy())
        with pytest.raises(DataError, match=r"valid rows have the shape \(2, 6\), not \(3, 6\)"):
            datasets.load("toy")

    def test_damaged_packed_file_is_refused(self, use, cache):
        cache.mkdir()
        (cache / "toy.npz").write_bytes(b"PK\x03\x04")
        use(toy())
        with pytest.raises(DataError, match=r"toy\.npz cannot be read.*To mend it"):
            datasets.load("toy")

    def test_folder_that_cannot_be_written_to_serves_what_it_has(self, use, cache, monkeypatch):
        put_texts(cache / "toy")
        monkeypatch.setattr(binary_sets, "write_splits", refuse)
        use(toy())
        assert_rows(datasets.load("toy"))
        assert datasets.fetch("toy") == tuple(cache / "toy" / file for file in TEXTS)

    def test_download_that_cannot_be_kept_is_an_error(
        self, use, serve, published, cache, monkeypatch
    ):
        monkeypatch.setattr(binary_sets, "write_splits", refuse)
        use(toy(source=Source(serve(published), TEXTS)))
        with pytest.raises(RunFolderError, match="cannot be written"):
            datasets.load("toy")


def refuse(path, *rest):
    raise RunFolderError(f"{path} cannot be written.")


class TestWithoutSource:
    def test_sentence_says_why_and_what_to_do(self, use, cache):
        use(toy(source=None, note="its split is our own"))
        with pytest.raises(DataError, match=r"cannot be downloaded: its split.*put a toy\.npz"):
            datasets.fetch("toy")
        assert place() == f"{cache / 'toy.npz'} (not there; cannot be downloaded)"

    def test_packed_file_serves(self, use, cache):
        write_splits(cache / "toy.npz", Splits(ROWS))
        use(toy(source=None, note="its split is our own"))
        data = datasets.load("toy")
        assert_rows(data)
        assert data.source.endswith("no public files of this split; its split is our own")


def test_data_set_says_what_it_is(use, cache):
    write_splits(cache / "toy.npz", Splits(ROWS))
    use(toy(licence="free"))
    data = datasets.load("toy")
    assert (data.name, data.kind, data.licence) == ("toy", "binary", "free")
    assert "Larochelle & Murray (2011)" in data.source
    assert NOWHERE in data.source


def test_unknown_name_is_refused():
    with pytest.raises(UnknownNameError, match="'nltcs'"):
        datasets.binary_set("nltc")


class TestCatalogue:
    def test_every_set_is_listed_with_its_size_kind_and_licence(self):
        listed = {row.name: row for row in datasets.describe()}
        for name, known in BINARY_SETS.items():
            row = listed[name]
            assert (row.rows, row.dim, row.kind) == (sum(known.sizes), known.dim, "binary")
            assert (row.origin, row.licence) == ("fetched", known.licence)
        assert BINARY_SETS.keys() == INDEPENDENT.keys()

    def test_checksums_are_whole_and_differ(self):
        sums = [each for known in BINARY_SETS.values() for each in known.checksums]
        assert len(set(sums)) == 3 * len(BINARY_SETS)
        assert all(len(each) == 64 and set(each) <= set("0123456789abcdef") for each in sums)

    def test_addresses_are_those_of_the_publishers(self):
        urls = {
            name: known.source.base_url + known.source.files[0]
            for name, known in BINARY_SETS.items()
            if known.source
        }
        github = "https://raw.githubusercontent.com"
        ucla = f"{github}/UCLA-StarAI/Density-Estimation-Datasets/master/datasets"
        assert urls["nltcs"] == f"{ucla}/nltcs/nltcs.train.data"
        assert urls["dna"] == f"{github}/mgermain/MADE/master/datasets/dna.npz"
        assert urls["binarized_mnist"] == (
            "http://www.cs.toronto.edu/~larocheh/public/datasets/"
            "binarized_mnist/binarized_mnist_train.amat"
        )
        assert BINARY_SETS.keys() - urls.keys() == {"web"}


@pytest.mark.skipif(REAL is None, reason="needs PYROLVM_DATA_TEST, a folder with the packed files")
@pytest.mark.parametrize("name", sorted(BINARY_SETS))
class TestRealFiles:
    @pytest.fixture(autouse=True)
    def real(self, monkeypatch):
        monkeypatch.setenv("PYROLVM_DATA", str(REAL))

    def test_rows_have_their_checksums_and_published_density(self, name):
        data = datasets.load(name)
        assert data.size == sum(BINARY_SETS[name].sizes)
        chance = (data.train.double().sum(0) + 1) / (len(data.train) + 2)
        nats = -torch.distributions.Bernoulli(chance).log_prob(data.test.double()).sum(1)
        assert nats.mean().item() == pytest.approx(INDEPENDENT[name], abs=2e-2)

    def test_texts_made_of_them_are_the_same_set(self, name, tmp_path, monkeypatch, use):
        data, known = datasets.load(name), BINARY_SETS[name]
        files = tuple(f"{part}.txt" for part in PARTS)
        (tmp_path / name).mkdir()
        for part, file in zip(PARTS, files, strict=True):
            bits = getattr(data, part).numpy().astype(np.uint8) + np.uint8(ord("0"))
            spaced = np.full((*bits.shape, 2), ord(","), np.uint8)
            spaced[..., 0] = bits
            spaced[:, -1, 1] = ord("\n")
            (tmp_path / name / file).write_bytes(spaced.tobytes())
        monkeypatch.setenv("PYROLVM_DATA", str(tmp_path))
        use(replace(known, source=Source(NOWHERE, files)))
        for _ in range(2):  # from the texts, then from the packed file
            again = datasets.load(name)
            for part in PARTS:
                assert getattr(again, part).equal(getattr(data, part))
        assert Path(datasets.fetch(name)[0]) == tmp_path / f"{name}.npz"
