from pathlib import Path

from pyrolvm.datasets import cache_folder


def test_variable_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PYROLVM_DATA", str(tmp_path / "data"))
    assert cache_folder() == tmp_path / "data"
    assert not cache_folder().exists()


def test_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("PYROLVM_DATA", "~/data")
    assert cache_folder() == Path.home() / "data"


def test_platform_decides_without_the_variable(monkeypatch):
    monkeypatch.delenv("PYROLVM_DATA", raising=False)
    assert cache_folder().name == "pyrolvm"
