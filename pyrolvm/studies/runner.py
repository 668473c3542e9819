"""Run the cells of a study that are not there yet, each exactly once, whoever else runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyrolvm.core import RunFolderError
from pyrolvm.studies.backends import Backend
from pyrolvm.studies.cell import Cell
from pyrolvm.studies.progress import Progress, progress_of
from pyrolvm.studies.store import Store
from pyrolvm.studies.worker import Outcome, Task


@dataclass(frozen=True)
class Plan:
    """How to run.

    Args:
        n_jobs: Processes of this machine.
        backend: Name of the backend.
        scheduler: Address of a Dask scheduler.
        resume: Whether cells that are there already are kept; a folder with cells is refused
            otherwise.
        repeats_failed: Whether cells that failed before are tried again.
        progress: Whether to show a bar.
    """

    n_jobs: int = 1
    backend: str = "local"
    scheduler: str | None = None
    resume: bool = True
    repeats_failed: bool = False
    progress: bool = True


def run_cells(name: str, cells: Sequence[Cell], store: Store, plan: Plan) -> list[Outcome]:
    """Run the cells of a study.

    A cell that another runner is at is left for the end, and waited for there.

    Args:
        name: Of the study, for the bar.
        cells: All of them.
        store: The study's folder, claimed.
        plan: How.

    Returns:
        Outcomes of the cells that were not there yet, in the order in which they came.
    """
    open_cells = [cell for cell in cells if _is_open(store, cell, plan)]
    done = len(cells) - len(open_cells)
    failed = sum(store.has_failed(cell.key) for cell in cells if not _is_open(store, cell, plan))
    if not open_cells:
        return []
    with (
        Backend(plan.backend, plan.n_jobs, plan.scheduler, store.folder.resolve()) as backend,
        progress_of(name, len(cells), done, failed, plan.progress) as progress,
    ):
        first = _pass(backend, store, open_cells, plan, progress, waits=False)
        busy = {outcome.key for outcome in first if outcome.state == "busy"}
        left = [cell for cell in open_cells if cell.key in busy]
        last = _pass(backend, store, left, plan, progress, waits=True)
    return [outcome for outcome in first if outcome.state != "busy"] + last


def check_folder(store: Store, plan: Plan) -> None:
    """Refuse a folder with cells where a fresh start was asked for.

    Raises:
        RunFolderError: If there are cells.
    """
    if not plan.resume and store.has_cells():
        raise RunFolderError(
            f"{store.folder} has cells already, and --no-resume asks for a fresh start. Choose "
            "another --out, or delete the folder yourself."
        )


def _is_open(store: Store, cell: Cell, plan: Plan) -> bool:
    if store.has(cell.key):
        return False
    return plan.repeats_failed or not store.has_failed(cell.key)


def _pass(
    backend: Backend,
    store: Store,
    cells: Sequence[Cell],
    plan: Plan,
    progress: Progress,
    *,
    waits: bool,
) -> list[Outcome]:
    together: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        together.setdefault(cell.ensemble or cell.key, []).append(dict(cell.configuration))
    tasks = [
        Task(
            str(store.folder.resolve()), tuple(configurations), os.getpid(), os.getcwd(),
            plan.repeats_failed, waits,
        )
        for configurations in together.values()
    ]  # fmt: skip
    outcomes = []
    for outcome in backend.run(tasks):
        progress.count(outcome)
        outcomes.append(outcome)
    return outcomes
