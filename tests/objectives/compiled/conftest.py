"""Plain steps to compare with, and a cache of compiled programs of the tests' own."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import ELBO


@pytest.fixture
def plain_step():
    """Loss and gradients of a plain step of Pyro, from a seed."""

    def step(loss, model, guide, args, kwargs, parameters, seed):
        for parameter in parameters:
            parameter.grad = None
        torch.manual_seed(seed)
        with pyro.validation_enabled(False):
            if isinstance(loss, ELBO):
                value = float(loss.loss_and_grads(model, guide, *args, **kwargs))
            else:
                tensor = loss(model, guide, *args, **kwargs)
                tensor.backward()
                value = tensor.item()
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        return value, gradients

    return step


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory):
    """A folder for compiled programs, one for all tests."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def compiling(compile_cache, monkeypatch):
    """Compile into the tests' own folder."""
    monkeypatch.setenv("PYROLVM_COMPILE_CACHE", str(compile_cache))
