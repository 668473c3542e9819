"""Run one cell, wherever that is: in this process, in another one, on another machine."""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from pyrolvm.core import RunFolderError
from pyrolvm.studies.cell import Cell, as_text
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
        configuration: Of the cell.
        runner: Process of the runner.
        home: Its working folder, in which factories of the user's own are looked for.
        repeats_failed: Whether a cell that has failed before is tried again.
        waits: Whether to wait for another runner that is at this cell.
    """

    folder: str
    configuration: Mapping[str, Any]
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


def run_cell(task: Task) -> Outcome:
    """Measure a cell and write its folder, unless it is there or another runner is at it.

    Raises:
        RunFolderError: If the folder of the study cannot be written.
    """
    if os.getpid() != task.runner:
        _settle(task.home)
    start = time.perf_counter()
    store, cell = Store(Path(task.folder)), Cell(task.configuration)
    if not store.folder.is_dir():
        raise RunFolderError(
            f"{socket.gethostname()} does not see the folder {store.folder}. Choose an --out on a "
            "disk that all machines share."
        )
    if store.has(cell.key):
        return Outcome(cell.key, "done")
    try:
        with store.lock(cell.key).acquire(timeout=-1 if task.waits else 0), _one_at_a_time:
            state, seconds = _run(store, cell, task.repeats_failed)
    except Timeout:
        return Outcome(cell.key, "busy")
    return Outcome(cell.key, state, seconds, time.perf_counter() - start)


def _run(store: Store, cell: Cell, repeats_failed: bool) -> tuple[State, float]:
    """Run a cell whose lock is held."""
    store.sweep(cell.key)
    if store.has(cell.key):
        return "done", 0.0
    if store.has_failed(cell.key) and not repeats_failed:
        return "failed", 0.0
    started = datetime.now(UTC).isoformat(timespec="seconds")
    begin = time.perf_counter()
    try:
        found = measure_cell(cell.configuration)
        files = _files(cell, found, started)
    except Exception:
        files = {CONFIG: cell.text(), ERROR: traceback.format_exc()}
        store.write_failure(cell.key, files)
        return "failed", time.perf_counter() - begin
    store.write_cell(cell.key, files)
    return "done", found.seconds["total"]


def _files(cell: Cell, found: CellMeasurement, started: str) -> dict[str, str]:
    return {
        CONFIG: cell.text(),
        RESULT: as_text({"results": found.results, "checks": found.checks}),
        PER_DATUM: as_text(found.per_datum),
        PROVENANCE: as_text({**_surroundings(), "started": started, "seconds": found.seconds}),
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
