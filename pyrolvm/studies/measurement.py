"""Measure one cell: train its pair, score it, and check that the figures agree with each other.

All that it returns but the seconds is a function of the configuration alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro

from pyrolvm.core import Data
from pyrolvm.core.threads import limited_threads
from pyrolvm.guides import PerDatum
from pyrolvm.inference.measuring import Training, is_per_datum, measure
from pyrolvm.inference.oracle import Oracles, OracleSettings, fit_to_each
from pyrolvm.studies.checks import checks
from pyrolvm.studies.further_results import further_results
from pyrolvm.studies.learning_results import learning_results
from pyrolvm.studies.per_datum import per_datum
from pyrolvm.studies.posterior_modes import mode_results, posterior_mode_entropy
from pyrolvm.studies.problem import seed_for
from pyrolvm.studies.questions import answers
from pyrolvm.studies.results import results
from pyrolvm.studies.training import Trained, train_pair

ROW = "guide"


@dataclass(frozen=True)
class CellMeasurement:
    """What came of a cell.

    Args:
        results: Figures by name; see :func:`pyrolvm.studies.results.results`.
        checks: See :func:`pyrolvm.studies.checks.checks`.
        per_datum: Arrays over the scored rows; see :mod:`pyrolvm.studies.per_datum`.
        seconds: Wall time of each part, and the processor time of training.
    """

    results: dict[str, Any]
    checks: list[dict[str, Any]]
    per_datum: dict[str, list[float | None]]
    seconds: dict[str, float]


def measure_cell(
    configuration: Mapping[str, Any], training: Callable[[], Trained] | None = None
) -> CellMeasurement:
    """Train and score the pair of a cell, on one thread and with random numbers of its own.

    Args:
        configuration: That of the cell.
        training: Gives the pair where it was trained with others; None to train it here.
    """
    start = time.perf_counter()
    with limited_threads(1), pyro.get_param_store().scope():
        trained = train_pair(configuration) if training is None else training()
        trained_at = time.perf_counter()
        measured, evidence, losses = _measured(trained, configuration)
        found = results(measured, evidence, trained, losses)
        found |= further_results(measured, evidence, trained, configuration)
        found |= learning_results(measured, evidence, trained)
        found |= answers(trained, configuration)
        entropy = posterior_mode_entropy(trained, evidence)
        found |= mode_results(entropy)
        verdicts = checks(measured, evidence, losses)
    end = time.perf_counter()
    spent = trained_at - start + (0.0 if training is None else trained.seconds)
    seconds = {
        "training": spent, "scoring": end - trained_at, "total": spent + end - trained_at,
        "training_cpu": trained.cpu_seconds,
    }  # fmt: skip
    return CellMeasurement(found, verdicts, per_datum(measured, entropy), seconds)


def _measured(trained: Trained, configuration: Mapping[str, Any]) -> Any:
    settings = OracleSettings(
        steps=configuration["oracle_steps"],
        num_particles=configuration["particles"],
        seed=seed_for("score", configuration["seed"]),
        checkpoints=None,
        progress=False,
    )
    scored = Data.of(trained.rows.test)
    oracles = Oracles({ROW: (trained.model, trained.guide)}, scored, settings)
    losses = trained.losses
    if is_per_datum(trained.guide):
        losses = _fit_per_datum(trained, oracles)
    return *measure(ROW, Training(losses, trained.seconds), oracles), losses


def _fit_per_datum(trained: Trained, oracles: Oracles) -> Any:
    """Parameters of each datum's own are fitted to the scored rows themselves."""
    model, guide = trained.model, trained.guide
    if isinstance(guide, PerDatum):
        return oracles.fit(ROW, model, guide, None).losses
    return fit_to_each(ROW, model, guide, oracles.scored, oracles.settings).losses
