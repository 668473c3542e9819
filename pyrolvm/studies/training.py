"""Train the guide of a cell: restarts from other first weights, the lowest loss is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrolvm.fit import Fit, fit
from pyrolvm.inference.measuring import is_per_datum
from pyrolvm.inference.scoring import num_parameters
from pyrolvm.studies.objectives import loss_of
from pyrolvm.studies.problem import Rows, make_generator, make_guide_for, make_rows, seed_for

FITS_GENERATOR = (
    "model", "truth", "information", "data", "data_digest", "model_seed", "seed", "model_steps",
    "batch_size", "test_size",
)  # fmt: skip
"""Settings that a fitted generator depends on; the seed draws simulated rows."""


@dataclass(frozen=True)
class Trained:
    """A pair as training left it.

    Args:
        model: The generator.
        guide: The guide.
        rows: Rows to train on and to score.
        losses: Loss of every step in nats per datum; empty where nothing was trained.
        seconds: Wall time of this attempt's training.
        restart: Which of the attempts it is, from 0.
    """

    model: Any
    guide: Any
    rows: Rows
    losses: Tensor
    seconds: float
    restart: int

    @property
    def loss(self) -> float:
        """Mean loss of the last tenth of the steps, at least one; NaN without steps."""
        tail = self.losses[-max(1, len(self.losses) // 10) :]
        return tail.double().mean().item()


def train_pair(configuration: Mapping[str, Any]) -> Trained:
    """Build the pair of a cell and train it.

    Args:
        configuration: That of the cell.

    Returns:
        The attempt with the lowest training loss; the scored rows have no say in it.
    """
    store = pyro.get_param_store()
    model, rows = _problem(configuration)
    best = _attempt(model, rows, configuration, 0)
    kept = store.get_state()
    for restart in range(1, configuration["restarts"] if len(best.losses) else 1):
        store.clear()  # parameters of programs that are not modules start anew too
        if configuration["train"] == "both":
            model, rows = _problem(configuration)
        found = _attempt(model, rows, configuration, restart)
        if found.loss < best.loss:
            best, kept = found, store.get_state()
    store.set_state(kept)
    return best


def _problem(configuration: Mapping[str, Any]) -> tuple[Any, Rows]:
    """The generator and its rows; it is fitted to them first where the cell says so."""
    model = make_generator(configuration)
    rows = make_rows(model, configuration)
    if configuration["model_steps"]:
        used = {key: configuration[key] for key in FITS_GENERATOR if key in configuration}
        model.load_state_dict(_fitted_generator(json.dumps(used, sort_keys=True)))
    return model, rows


@lru_cache(maxsize=8)
def _fitted_generator(text: str) -> dict[str, Tensor]:
    """Weights of a generator that was fitted to its rows; cells of one problem share them.

    Args:
        text: The part of the configuration that they depend on, as JSON.
    """
    used = json.loads(text)
    model = make_generator(used)
    rows = make_rows(model, used)
    table = {"name": "amortized", "family": "full", "standardise": True}
    seeds = [seed_for(what, used["model_seed"]) for what in ("helper", "fit of the generator")]
    fit(
        model,
        make_guide_for(model, {"guide": table}, seeds[0], rows.train),
        rows.train,
        steps=used["model_steps"],
        batch_size=_batch_size(used, rows),
        seed=seeds[1],
        progress=False,
    )
    return {name: value.clone() for name, value in model.state_dict().items()}


def _attempt(model: Any, rows: Rows, configuration: Mapping[str, Any], restart: int) -> Trained:
    numbers = (configuration["seed"], restart)
    guide = make_guide_for(model, configuration, seed_for("first weights", *numbers), rows.train)
    learns = not is_per_datum(guide) and configuration["steps"] > 0
    if learns and (configuration["train"] == "both" or num_parameters(guide, rows.train[:2])):
        result = _fitted(model, guide, rows, configuration, seed_for("fit", *numbers))
        return Trained(model, guide, rows, result.losses, result.seconds, restart)
    return Trained(model, guide, rows, torch.empty(0), 0.0, restart)


def _fitted(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    rows: Rows,
    configuration: Mapping[str, Any],
    seed: int,
) -> Fit:
    return fit(
        model,
        guide,
        rows.train,
        steps=configuration["steps"],
        batch_size=_batch_size(configuration, rows),
        learning_rate=configuration["learning_rate"],
        num_particles=configuration["num_particles"],
        loss=loss_of(configuration["objective"], configuration["num_particles"]),
        train=configuration["train"],
        seed=seed,
        progress=False,
    )


def _batch_size(configuration: Mapping[str, Any], rows: Rows) -> int:
    return configuration["batch_size"] or len(rows.train)
