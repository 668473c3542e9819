import gzip
import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.datasets import fashion_mnist, fetch

# The package's function of that name hides the module.
module = importlib.import_module("pyrolvm.datasets.fashion_mnist")

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def images(count, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 784), dtype=np.uint8)
    return bytes(16) + pixels.tobytes()


CONTENT = {
    "train": images(5, 0),
    "train_labels": bytes(8) + bytes([0, 1, 2, 3, 9]),
    "test": images(2, 1),
    "test_labels": bytes(8) + bytes([4, 5]),
}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with four small archives, and the checksums that go with them."""
    folder = tmp_path / "published"
    folder.mkdir()
    archives = {}
    for part, content in CONTENT.items():
        packed = gzip.compress(content, mtime=1)
        (folder / f"{part}.gz").write_bytes(packed)
        digests = (hashlib.sha256(each).hexdigest() for each in (packed, content))
        archives[part] = module.Archive(f"{part}.gz", *digests)
    monkeypatch.setattr(module, "ARCHIVES", archives)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROLVM_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fashion-mnist"


@pytest.fixture
def server(published, serve, monkeypatch):
    monkeypatch.setattr(module, "BASE_URL", serve(published))


@pytest.fixture
def offline(published, monkeypatch):
    """Port 9 of this machine, where nothing answers."""
    monkeypatch.setattr(module, "BASE_URL", "http://127.0.0.1:9/")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_are_downloaded_and_read(server, cache):
    data = fashion_mnist()
    pixels = np.frombuffer(CONTENT["train"], np.uint8, offset=16).reshape(5, 784)
    torch.testing.assert_close(data.train, torch.from_numpy(pixels / np.float32(255)))
    assert data.test is not None
    assert data.train_labels is not None
    assert data.test_labels is not None
    assert data.test.shape == (2, 784)
    assert data.train_labels.tolist() == [0, 1, 2, 3, 9]
    assert data.test_labels.tolist() == [4, 5]
    assert files(cache) == sorted(f"{part}.gz" for part in CONTENT)


def test_fetched_files_need_no_server(server, cache, monkeypatch):
    assert [path.parent for path in fetch("fashion_mnist")] == [cache] * 4
    monkeypatch.setattr(module, "BASE_URL", "http://127.0.0.1:9/")
    assert fashion_mnist().size == 7


def test_repacked_files_of_the_same_content_need_no_server(offline, cache):
    cache.mkdir(parents=True)
    for part, content in CONTENT.items():
        (cache / f"{part}.gz").write_bytes(gzip.compress(content, 1, mtime=2))
    assert fashion_mnist().size == 7


@pytest.mark.parametrize("broken", [b"", b"no archive", gzip.compress(b"other"), b"\x1f\x8b\x08"])
def test_broken_file_in_the_cache_is_fetched_again(broken, server, cache):
    cache.mkdir(parents=True)
    (cache / "test.gz").write_bytes(broken)
    assert fashion_mnist().size == 7


def test_download_of_something_else_is_refused_and_leaves_nothing(server, published, cache):
    (published / "train.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match=r"train\.gz.*hash"):
        fashion_mnist()
    assert files(cache) == []


def test_missing_file_on_the_server_says_what_to_do(server, published, cache):
    (published / "train.gz").unlink()
    with pytest.raises(DataError, match=r"404.*by hand.*dataset-fashion-mnist"):
        fashion_mnist()


def test_without_a_network_the_file_that_is_missing_is_named(offline, cache):
    with pytest.raises(DataError, match=r"train\.gz in .*failed"):
        fetch("fashion_mnist")


@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_debian_package_serves_as_the_cache(monkeypatch):
    monkeypatch.setenv("PYROLVM_DATA", str(DEBIAN.parent))
    data = fashion_mnist()
    assert data.train.shape == (60_000, 784)
    assert data.test_labels is not None
    assert data.test_labels.bincount().tolist() == [1000] * 10
