"""Run a cell, or the cells of an ensemble: in this process, another one, on another machine."""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from pyrolvm.core import RunFolderError
from pyrolvm.studies.cell import Cell, as_text
from pyrolvm.studies.ensemble_worker import Training, trainings
from pyrolvm.studies.measurement import CellMeasurement, measure_cell
from pyrolvm.studies.store import CONFIG, ERROR, PER_DATUM, PROVENANCE, RESULT, Store

State = Literal["done", "failed", "busy"]
PACKAGES = ("pyrolvm", "torch", "pyro-ppl", "numpy")

_one_at_a_time = threading.Lock()
"""Torch's settings and Pyro's store belong to the process: its threads take turns."""


@dataclass(frozen=True)
class Task:
    """What a worker is told.

    Args:
        folder: Of the study.
        configurations: Of one cell, or of cells of one ensemble.
        runner: Process of the runner.
        home: Its working folder, in which factories of the user's own are looked for.
        repeats_failed: Whether a cell that has failed before is tried again.
        waits: Whether to wait for another runner that is at this cell.
    """

    folder: str
    configurations: tuple[Mapping[str, Any], ...]
    runner: int
    home: str
    repeats_failed: bool
    waits: bool


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Args:
        key: The cell.
        state: ``"busy"`` if another runner is at it.
        seconds: Wall time of training and scoring, 0 where it was there already.
        total: Wall time of everything.
    """

    key: str
    state: State
    seconds: float = 0.0
    total: float = 0.0


def run_task(task: Task) -> tuple[Outcome, ...]:
    """Measure cells and write their folders, unless they are there or another runner is at them.

    Raises:
        RunFolderError: If the folder of the study cannot be written.
    """
    if os.getpid() != task.runner:
        _settle(task.home)
    store, cells = Store(Path(task.folder)), [Cell(each) for each in task.configurations]
    if not store.folder.is_dir():
        raise RunFolderError(
            f"{socket.gethostname()} does not see the folder {store.folder}. Choose an --out on a "
            "disk that all machines share."
        )
    left = [cell for cell in cells if not store.has(cell.key)]
    done = tuple(Outcome(cell.key, "done") for cell in cells if cell not in left)
    if not left:
        return done
    lock = store.lock(left[0].ensemble or left[0].key)
    try:
        with lock.acquire(timeout=-1 if task.waits else 0), _one_at_a_time:
            return done + _run(store, left, task.repeats_failed)
    except Timeout:
        return done + tuple(Outcome(cell.key, "busy") for cell in left)


def _run(store: Store, cells: Sequence[Cell], repeats_failed: bool) -> tuple[Outcome, ...]:
    """Run cells whose lock is held."""
    outcomes, left = [], []
    for cell in cells:
        store.sweep(cell.key)
        if store.has(cell.key):
            outcomes.append(Outcome(cell.key, "done"))
        elif store.has_failed(cell.key) and not repeats_failed:
            outcomes.append(Outcome(cell.key, "failed"))
        else:
            left.append(cell)
    if left and left[0].ensemble is not None:
        trained = trainings(left)
        return *outcomes, *(_run_cell(store, cell, *trained[cell.key]) for cell in left)
    return *outcomes, *(_run_cell(store, cell) for cell in left)


def _run_cell(
    store: Store, cell: Cell, training: Training | None = None, how: str = ""
) -> Outcome:
    """Measure and write a cell that is not there.

    Args:
        store: The study's folder.
        cell: The cell.
        training: Gives its trained pair; None to train it alone.
        how: How it was trained, of a cell of an ensemble.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    begin = time.perf_counter()
    given = () if training is None else (training,)
    try:
        found = measure_cell(cell.configuration, *given)
        files = _files(cell, found, started, how)
    except Exception:
        files = {CONFIG: cell.text(), ERROR: traceback.format_exc()}
        store.write_failure(cell.key, files)
        spent = time.perf_counter() - begin
        return Outcome(cell.key, "failed", spent, spent)
    store.write_cell(cell.key, files)
    spent = time.perf_counter() - begin
    return Outcome(cell.key, "done", found.seconds["total"], spent)


def _files(cell: Cell, found: CellMeasurement, started: str, how: str) -> dict[str, str]:
    facts = {**_surroundings(), "started": started, "seconds": found.seconds}
    facts |= {"trained": how} if how else {}
    return {
        CONFIG: cell.text(),
        RESULT: as_text({"results": found.results, "checks": found.checks}),
        PER_DATUM: as_text(found.per_datum),
        PROVENANCE: as_text(facts),
    }


@cache
def _surroundings() -> dict[str, Any]:
    return {
        "versions": {"python": platform.python_version(), **{n: version(n) for n in PACKAGES}},
        "platform": platform.platform(),
        "device": "cpu",
        "host": socket.gethostname(),
    }


def _settle(home: str) -> None:
    """Prepare a process of the worker's own.

    Ctrl-C reaches every process of a terminal: the runner alone is to heed it.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if home not in sys.path:
        sys.path.append(home)
