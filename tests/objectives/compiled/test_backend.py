"""Programs on disk."""

from __future__ import annotations

import pytest
import torch
from torch.fx import symbolic_trace

from pyrolvm.objectives.compiled import backend
from pyrolvm.objectives.compiled.backend import compiled, has_compiler

GRAPH = symbolic_trace(lambda x: (x * 2.0,))
INPUTS = [torch.ones(3)]


def stored(tmp_path, monkeypatch):
    """Where the program of the graph is kept; what is there is damaged."""
    monkeypatch.setenv("PYROLVM_COMPILE_CACHE", str(tmp_path))
    path = backend._path(GRAPH, INPUTS)
    path.write_bytes(b"half a program")
    return path


def test_a_damaged_program_is_compiled_once_more(tmp_path, monkeypatch):
    path, made = stored(tmp_path, monkeypatch), []

    def compile_(graph, inputs, to):
        assert not to.exists()
        to.write_bytes(b"a program")
        made.append(to)

    def load(path, inputs):
        if path.read_bytes() != b"a program":
            raise RuntimeError("damaged")
        return "loaded"

    monkeypatch.setattr(backend, "_compile", compile_)
    monkeypatch.setattr(backend, "_load", load)
    assert [compiled(GRAPH, INPUTS) for _ in range(2)] == ["loaded", "loaded"]
    assert made == [path]


def test_a_program_that_is_damaged_again_is_refused(tmp_path, monkeypatch):
    path = stored(tmp_path, monkeypatch)
    monkeypatch.setattr(backend, "_compile", lambda graph, inputs, to: to.write_bytes(b"half"))
    with pytest.raises(RuntimeError):
        compiled(GRAPH, INPUTS)
    assert path.exists()


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
def test_a_truncated_program_is_replaced_by_a_whole_one(tmp_path, monkeypatch):
    path = stored(tmp_path, monkeypatch)
    compiled(GRAPH, INPUTS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (doubled,) = compiled(GRAPH, INPUTS)([torch.ones(3)])
    assert torch.equal(doubled, torch.full((3,), 2.0))
    assert path.stat().st_size > len(whole) // 2
