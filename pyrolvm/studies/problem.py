"""What a cell is about: a generator, rows to train on, rows to score, and a fresh guide."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyrolvm.compare import hold_out
from pyrolvm.core import Model, prior_predictive
from pyrolvm.core.checkpoint import fingerprint
from pyrolvm.core.errors import SettingError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.datasets import Dataset, load
from pyrolvm.inference.information import noise_for_information
from pyrolvm.registry import build_guide, build_model
from pyrolvm.studies.specification import NAME, STANDARDISE, import_factory, is_import_path

SIMULATED = re.compile(r"simulated:(\d+)")


@dataclass(frozen=True)
class Rows:
    """Observations of a cell.

    Args:
        train: Rows to train on, first dimension N.
        test: Rows that are scored.
    """

    train: Tensor
    test: Tensor


def seed_for(purpose: str, *numbers: int) -> int:
    """A seed of 32 bits for one purpose, unrelated to those of others.

    >>> seed_for("guide", 0) == seed_for("guide", 0), seed_for("guide", 0) == seed_for("fit", 0)
    (True, False)
    """
    return int(fingerprint([purpose, *numbers])[:8], 16)


def simulated_size(data: str) -> int | None:
    """Rows of ``"simulated:1000"``; None for data of another kind.

    Raises:
        SettingError: If it says simulated, but not how many.
    """
    found = SIMULATED.fullmatch(data)
    if found and int(found[1]) >= 2:
        return int(found[1])
    if data.split(":", maxsplit=1)[0] == "simulated":
        raise SettingError(f'data = {data!r} should say how many rows: "simulated:1000".')
    return None


@lru_cache(maxsize=4)
def _loaded(data: str, model_seed: int, digest: str) -> Dataset:
    return load(data, seed=model_seed)


def dataset_of(data: str, model_seed: int) -> Dataset:
    """A data set by name or file; the last few are kept."""
    path = Path(data)
    content = path.read_bytes().hex() if path.is_file() else ""
    return _loaded(data, model_seed, fingerprint(content))


def make_generator(configuration: Mapping[str, Any]) -> Any:
    """Build the model of a cell, its weights drawn from ``model_seed``.

    Where the cell names an ``information``, its noise scale is the one that gives it.
    """
    table, model_seed = dict(configuration["model"]), configuration["model_seed"]
    if configuration.get("information"):
        text = json.dumps(table, sort_keys=True)
        table["noise_scale"] = _tuned_noise(text, configuration["information"], model_seed)
    return _generator(table, model_seed)


def make_truth(configuration: Mapping[str, Any]) -> Any:
    """Build the generator that simulated rows come from; None where it is the model itself."""
    if not configuration.get("truth"):
        return None
    return _generator(dict(configuration["truth"]), configuration["model_seed"])


@lru_cache(maxsize=16)
def _tuned_noise(text: str, nats: float, model_seed: int) -> float:
    """Noise scale at which a generator has an information; cells of one problem share it."""

    def make(noise_scale: float) -> Any:
        return _generator({**json.loads(text), "noise_scale": noise_scale}, model_seed)

    return noise_for_information(make, nats, seed=model_seed)


def _generator(table: dict[str, Any], model_seed: int) -> Any:
    name = table.pop(NAME)
    with own_randomness(seed_for("generator", model_seed)):
        if is_import_path(name):
            return import_factory(name)(**table)
        return build_model(name, table)


def make_guide_for(model: Any, configuration: Mapping[str, Any], seed: int, train: Tensor) -> Any:
    """Build the guide of a cell.

    Args:
        model: The model of the cell.
        configuration: That of the cell.
        seed: Of its first weights.
        train: Rows whose units an encoder takes for its inputs.
    """
    table = dict(configuration["guide"])
    name, standardise = table.pop(NAME), table.pop(STANDARDISE, False)
    with own_randomness(seed):
        if is_import_path(name):
            return import_factory(name)(model, **table)
        guide: Any = build_guide(name, table, model)
    return guide.standardise_by(train) if standardise else guide


def make_rows(model: Any, configuration: Mapping[str, Any]) -> Rows:
    """Simulate or load the rows of a cell; the test rows are never trained on."""
    size, test_size = simulated_size(configuration["data"]), configuration["test_size"]
    numbers = (configuration["model_seed"], configuration["seed"])
    if size is not None:
        truth = make_truth(configuration)
        model = model if truth is None else truth
        train = simulate(model, size, seed_for("training rows", *numbers))
        return Rows(train, simulate(model, test_size, seed_for("test rows", *numbers)))
    return _split(configuration["data"], configuration["model_seed"], test_size)


def make_outliers(configuration: Mapping[str, Any]) -> Tensor | None:
    """Held-out rows of the data set of a cell's outliers, shape ``(M, D)``; None without one."""
    if not configuration["outliers"]:
        return None
    names = (configuration["outliers"], configuration["model_seed"])
    return _split(*names, configuration["test_size"]).test


def _split(data: str, model_seed: int, test_size: int) -> Rows:
    """Rows of a data set: its own split where it has one, a random one of 80 % elsewhere."""
    dataset = dataset_of(data, model_seed)
    if dataset.test is not None:
        return Rows(dataset.train, dataset.test[:test_size])
    rows, scored, _ = hold_out(dataset.train, model_seed)
    assert rows.positional is not None
    assert scored.positional is not None
    return Rows(rows.positional, scored.positional[:test_size])


def simulate(model: Any, size: int, seed: int) -> Tensor:
    """Draw observations from a generator.

    Args:
        model: A model of PyroLVM, or a program that takes ``size`` and returns its observations.
        size: Number of rows N.
        seed: The same seed gives the same rows.

    Returns:
        Shape ``(N, obs_dim)``, in torch's default type.

    Raises:
        SettingError: If the program cannot be simulated like that.
    """
    with own_randomness(seed), torch.no_grad():
        if isinstance(model, Model):
            return prior_predictive(model, size).observations["x"].to(torch.get_default_dtype())
        try:
            rows = poutine.trace(model).get_trace(size=size).nodes["_RETURN"]["value"]
        except TypeError as error:
            rows = error
    if not isinstance(rows, Tensor) or len(rows) != size:
        raise SettingError(
            f"Simulated data need a program that takes size={size} and returns so many rows of "
            f"observations, but {getattr(model, '__name__', type(model).__name__)} gave "
            f"{type(rows).__name__} ({rows}). Name a data set or a file instead."
        )
    return rows
