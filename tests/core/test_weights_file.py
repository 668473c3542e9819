"""Weights of any pair go through a file that cannot hold code; anything else is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from safetensors.torch import save_file

import pyrolvm as lvm
from pyrolvm.core.errors import CheckpointError
from pyrolvm.core.weights_file import load_weights

X = torch.tensor([0.5, 1.5, -1.0])


@pytest.fixture(autouse=True)
def _own_store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def model(x):
    scale = pyro.param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, scale))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x):
    loc = pyro.param("loc", torch.zeros(len(x)))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc, 0.5))


def stored(path, program=guide):
    """Run, train by hand, save, and forget."""
    program(X)
    model(X)
    with torch.no_grad():
        for value in pyro.get_param_store().values():
            value.add_(0.25)
    pyro.get_param_store()["scale"] = torch.tensor(3.0)
    lvm.save_weights(model, program, path)
    pyro.clear_param_store()


def test_parameters_of_the_store_come_back(tmp_path):
    stored(tmp_path / "w.safetensors")
    load_weights(model, guide, X, tmp_path / "w.safetensors")
    assert pyro.param("scale").item() == pytest.approx(3.0)
    assert torch.equal(pyro.param("loc"), torch.full((3,), 0.25))


def test_a_guide_that_makes_its_parameters_when_it_first_runs(tmp_path):
    first = AutoNormal(model)
    stored(tmp_path / "w.safetensors", first)
    second = AutoNormal(model)
    load_weights(model, second, X, tmp_path / "w.safetensors")
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_names_that_do_not_fit_change_nothing(tmp_path):
    stored(tmp_path / "w.safetensors")
    save_file({"store.loc": torch.ones(3)}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"'store\.scale' is absent in the file"):
        load_weights(model, guide, X, tmp_path / "part.safetensors")
    assert torch.equal(pyro.param("loc"), torch.zeros(3))


def test_shapes_that_do_not_fit_are_named(tmp_path):
    stored(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"'store.loc' is of shape \(3,\) .* \(2,\) in the"):
        load_weights(model, guide, X[:2], tmp_path / "w.safetensors")


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".safetensors"])
@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_nothing_of_it_runs(tmp_path, suffix, write):
    file, trace = tmp_path / f"weights{suffix}", tmp_path / "it_ran"
    with file.open("wb") as place:
        write({"guide.loc": Payload(trace)}, place)
    with pytest.raises(CheckpointError, match=r"no safetensors file.*pyrolvm\.save_weights"):
        load_weights(model, guide, X, file)
    assert not trace.exists()
    with file.open("rb") as place:  # the payload works: only its refusal kept it from running
        if write is pickle.dump:
            pickle.load(place)
        else:
            torch.load(place, weights_only=False)
    assert trace.exists()


def test_a_missing_file_is_named():
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors is no file"):
        load_weights(model, guide, X, Path("nowhere.safetensors"))
