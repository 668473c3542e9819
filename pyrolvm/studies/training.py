"""Train the pair of a cell: the generator first where it says so, then the guide or both.

Of several attempts from other first weights the one with the lowest loss is kept.
"""

from __future__ import annotations

import dataclasses
import json
import time
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
from pyrolvm.studies.learners import LEARNERS, FittedGenerator, learn_exactly
from pyrolvm.studies.objectives import loss_of
from pyrolvm.studies.problem import (
    Rows,
    make_generator,
    make_guide_for,
    make_rows,
    seed_for,
    simulated_size,
)

FITS_GENERATOR = (
    "model", "truth", "information", "data", "data_digest", "model_seed", "seed", "model_steps",
    "model_learner", "batch_size", "test_size",
)  # fmt: skip
"""Settings that a fitted generator depends on; the seed draws simulated rows only."""


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
        fitted: How the generator was fitted beforehand; None where it was not.
        cpu_seconds: What all attempts cost, and fitting the generator beforehand, on all threads.
        learns_generator: Whether this attempt trained the generator with the guide.
    """

    model: Any
    guide: Any
    rows: Rows
    losses: Tensor
    seconds: float
    restart: int
    fitted: FittedGenerator | None = None
    cpu_seconds: float = 0.0
    learns_generator: bool = False

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
    model, rows, fitted = make_problem(configuration)
    best = _attempt(model, rows, configuration, 0)
    spent, kept = best.cpu_seconds, store.get_state()
    for restart in range(1, configuration["restarts"] if len(best.losses) else 1):
        store.clear()  # parameters of programs that are not modules start anew too
        if configuration["train"] == "both":
            model, rows, fitted = make_problem(configuration)
        found = _attempt(model, rows, configuration, restart)
        spent += found.cpu_seconds
        if found.loss < best.loss:
            best, kept = found, store.get_state()
    store.set_state(kept)
    spent += 0.0 if fitted is None else fitted.cpu_seconds
    return dataclasses.replace(best, fitted=fitted, cpu_seconds=spent)


def make_problem(configuration: Mapping[str, Any]) -> tuple[Any, Rows, FittedGenerator | None]:
    """The generator and its rows; it is fitted to them first where the cell says so."""
    model = make_generator(configuration)
    rows = make_rows(model, configuration)
    if not configuration["model_steps"]:
        return model, rows, None
    used = {key: configuration[key] for key in FITS_GENERATOR if key in configuration}
    if simulated_size(used["data"]) is None:
        used["seed"] = 0
    fitted = _fitted_generator(json.dumps(used, sort_keys=True))
    model.load_state_dict(fitted.state)
    return model, rows, fitted


@lru_cache(maxsize=8)
def _fitted_generator(text: str) -> FittedGenerator:
    """A generator that was fitted to its rows; cells of one problem share it.

    Args:
        text: The part of the configuration that it depends on, as JSON.
    """
    used = json.loads(text)
    model = make_generator(used)
    rows = make_rows(model, used)
    seed = seed_for("fit of the generator", used["model_seed"])
    learner, steps = used["model_learner"], used["model_steps"]
    if LEARNERS[learner] is not None:
        return learn_exactly(learner, model, rows.train, steps, seed)
    table = {"name": "amortized", "family": "full", "standardise": True}
    helper = seed_for("helper", used["model_seed"])
    start = time.process_time()
    result = fit(
        model,
        make_guide_for(model, {"guide": table}, helper, rows.train),
        rows.train,
        steps=steps,
        batch_size=batch_size(used, rows),
        seed=seed,
        compile=False,
        progress=False,
    )
    return FittedGenerator.of(result, False, time.process_time() - start)


def _attempt(model: Any, rows: Rows, configuration: Mapping[str, Any], restart: int) -> Trained:
    numbers = (configuration["seed"], restart)
    guide = make_guide_for(model, configuration, seed_for("first weights", *numbers), rows.train)
    if learns(guide, rows, configuration):
        start = time.process_time()
        found = _fitted(model, guide, rows, configuration, seed_for("fit", *numbers))
        spent = time.process_time() - start
        return Trained(
            model, guide, rows, found.losses, found.seconds, restart, cpu_seconds=spent,
            learns_generator=configuration["train"] == "both",
        )  # fmt: skip
    return Trained(model, guide, rows, torch.empty(0), 0.0, restart)


def learns(guide: Any, rows: Rows, configuration: Mapping[str, Any]) -> bool:
    """Whether the pair of a cell is trained on its rows before it is scored."""
    if is_per_datum(guide) or not configuration["steps"]:
        return False
    return configuration["train"] == "both" or num_parameters(guide, rows.train[:2]) > 0


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
        batch_size=batch_size(configuration, rows),
        learning_rate=configuration["learning_rate"],
        num_particles=configuration["num_particles"],
        loss=loss_of(configuration["objective"], configuration["num_particles"]),
        train=configuration["train"],
        seed=seed,
        compile=False,
        progress=False,
    )


def batch_size(configuration: Mapping[str, Any], rows: Rows) -> int:
    """Return the rows in a minibatch of a cell."""
    return configuration["batch_size"] or len(rows.train)
