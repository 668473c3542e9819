"""Train the pairs of all cells of an ensemble as one program; see :mod:`pyrolvm.fit_ensemble`.

Each member has the first weights, minibatches and random numbers of its seeds, as when it is
trained alone, and may have rows of its own.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyro

from pyrolvm.core import Data, NonFiniteLossError
from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.core.threads import limited_threads
from pyrolvm.core.units import take_units
from pyrolvm.fit import beside_model
from pyrolvm.objectives.ensemble_loop import progress_bar
from pyrolvm.objectives.ensemble_plan import EnsemblePlan, Member
from pyrolvm.studies.cell import ENSEMBLE, Cell
from pyrolvm.studies.learners import FittedGenerator
from pyrolvm.studies.problem import Rows, make_guide_for, seed_for
from pyrolvm.studies.training import Trained, batch_size, learns, make_problem


@dataclasses.dataclass
class _Attempt:
    configuration: Mapping[str, Any]
    member: Member
    rows: Rows
    fitted: FittedGenerator | None
    restart: int


def train_together(cells: Sequence[Cell]) -> tuple[dict[str, Trained | NonFiniteLossError], str]:
    """Build the pairs of cells and train them.

    Args:
        cells: All members of an ensemble.

    Returns:
        What came of each cell, by its key: the attempt with the lowest training loss, or an error
        where one has diverged; and how the steps were taken, in words.

    Raises:
        IncompatiblePairError: If the pairs cannot be trained together.
    """
    settings = cells[0].configuration
    with limited_threads(1), pyro.get_param_store().scope():
        attempts = [_attempts(cell.configuration) for cell in cells]
        flat = [attempt for own in attempts for attempt in own]
        plan = EnsemblePlan(
            batch_size(settings, flat[0].rows),
            settings["steps"],
            settings["learning_rate"],
            decay=True,
            num_particles=settings["num_particles"],
            warm_up=None,
            learns=settings["train"],
            compile=settings[ENSEMBLE] == "compiled",
        )
        start, cpu = time.perf_counter(), time.process_time()
        with progress_bar(settings["steps"], False) as bar:
            how = plan.train([attempt.member for attempt in flat], bar)
        seconds = (time.perf_counter() - start) / len(flat)
        cpu = (time.process_time() - cpu) / len(flat)
        found = [_best(own, settings, seconds, cpu) for own in attempts]
    return {cell.key: each for cell, each in zip(cells, found, strict=True)}, how


def _attempts(configuration: Mapping[str, Any]) -> list[_Attempt]:
    """The pairs of a cell from other first weights, as it makes them when it is trained alone."""
    attempts: list[_Attempt] = []
    model, rows, fitted = make_problem(configuration)
    for restart in range(configuration["restarts"]):
        if restart and configuration["train"] == "both":
            model, rows, fitted = make_problem(configuration)
        numbers = (configuration["seed"], restart)
        first_weights = seed_for("first weights", *numbers)
        guide = make_guide_for(model, configuration, first_weights, rows.train)
        if not learns(guide, rows, configuration):
            raise IncompatiblePairError(f"{type(guide).__name__} has nothing to learn from steps.")
        data = beside_model(model, Data.of(rows.train), None)
        if configuration["train"] == "both":
            take_units(model, data)
        member = Member(model, guide, seed_for("fit", *numbers), {}, data)
        attempts.append(_Attempt(configuration, member, rows, fitted, restart))
    return attempts


def _best(
    attempts: Sequence[_Attempt], settings: Mapping[str, Any], seconds: float, cpu: float
) -> Trained | NonFiniteLossError:
    spent = len(attempts) * cpu
    found = []
    for attempt in attempts:
        member = attempt.member
        if member.stopped_at is not None:
            return NonFiniteLossError(
                f"Training stopped at step {member.stopped_at}: a loss or a gradient is not "
                "finite. Try a smaller learning_rate."
            )
        found.append(
            Trained(
                member.model, member.guide, attempt.rows, member.losses, seconds, attempt.restart,
                attempt.fitted, learns_generator=settings["train"] == "both",
            )
        )  # fmt: skip
    best = min(found, key=lambda trained: trained.loss)
    spent += 0.0 if best.fitted is None else best.fitted.cpu_seconds
    return dataclasses.replace(best, cpu_seconds=spent)
