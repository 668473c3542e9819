"""Run the shards of a calibration from a folder: each exactly once, whoever else runs.

The folder is that of a study whose cells are shards. A run that was killed goes on from there;
several runs of one calibration, also on several machines, share the work.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from pyrolvm.core import RunFolderError
from pyrolvm.core.checkpoint import fingerprint
from pyrolvm.inference.calibration import Shards
from pyrolvm.studies.backends import Backend
from pyrolvm.studies.cell import as_text
from pyrolvm.studies.progress import Progress, progress_of
from pyrolvm.studies.store import CONFIG, ERROR, RESULT, Store
from pyrolvm.studies.worker import Outcome

_one_at_a_time = threading.Lock()
"""Pyro's store belongs to the process: its threads take turns."""


@dataclass(frozen=True)
class InFolder:
    """A runner for :func:`pyrolvm.calibrate`: ``run=InFolder("runs/calibration", n_jobs=4)``.

    With several processes or a cluster, model and guide travel to these and have to be picklable:
    modules and functions at the top level of a file are.

    Args:
        folder: Where finished shards are kept; other calibrations may share it.
        n_jobs: Processes of this machine.
        backend: ``"local"``, ``"dask"`` or ``"ray"``.
        scheduler: Address of a Dask scheduler.
    """

    folder: str | Path
    n_jobs: int = 1
    backend: str = "local"
    scheduler: str | None = None

    def __call__(self, shards: Shards, progress: bool) -> list[dict[str, Any]]:
        """Run the shards that are not there yet, and return the records of all, in order.

        Raises:
            RunFolderError: If the folder cannot be used, or a shard fails; those that are finished
                stay, and the next run tries the others again.
        """
        store = Store(Path(self.folder).resolve())
        store.claim("calibration", {})
        facts = shards.facts()
        keys = [fingerprint({**facts, "shard": index}) for index in range(len(shards))]
        tasks = [
            ShardTask(store, key, shards, index)
            for index, key in enumerate(keys)
            if not store.has(key)
        ]
        if tasks:
            self._run(store, tasks, len(keys), progress)
        return [store.read(key, RESULT) for key in keys]

    def _run(self, store: Store, tasks: Sequence[ShardTask], total: int, shown: bool) -> None:
        done = total - len(tasks)
        with (
            Backend(self.backend, self.n_jobs, self.scheduler, store.folder) as backend,
            progress_of("calibrate", total, done, 0, shown) as bar,
        ):
            first = _pass(backend, tasks, bar)
            busy = [task for task in tasks if first[task.key] == "busy"]
            last = _pass(backend, [task.that_waits() for task in busy], bar)
        failed = [key for key, state in (first | last).items() if state == "failed"]
        if failed:
            reason = store.error(failed[0]).strip().splitlines()[-1]
            raise RunFolderError(
                f"{len(failed)} of {total} shards of the calibration failed, the first with: "
                f"{reason} The whole traceback is in {store.failure(failed[0]) / ERROR}. Finished "
                "shards are safe: the same call goes on from there."
            )


@dataclass(frozen=True)
class ShardTask:
    """What a worker is told.

    Args:
        store: The folder.
        key: Name of the shard's cell.
        shards: All shards.
        index: Which of them.
        waits: Whether to wait for another runner that is at this one.
    """

    store: Store
    key: str
    shards: Shards
    index: int
    waits: bool = False

    def that_waits(self) -> ShardTask:
        """The same task, to be finished whoever else is at it."""
        return ShardTask(self.store, self.key, self.shards, self.index, waits=True)


def _pass(backend: Backend, tasks: Sequence[ShardTask], bar: Progress) -> dict[str, str]:
    states: dict[str, str] = {}
    for outcome in backend.run(tasks, run_shard):
        bar.count(outcome)
        states[outcome.key] = outcome.state
    return states


def run_shard(task: ShardTask) -> tuple[Outcome]:
    """Run one shard and write its folder, unless it is there or another runner is at it."""
    store, key = task.store, task.key
    start = time.perf_counter()
    try:
        with store.lock(key).acquire(timeout=-1 if task.waits else 0), _one_at_a_time:
            store.sweep(key)
            if store.has(key):
                return (Outcome(key, "done"),)
            config = as_text({**task.shards.facts(), "shard": task.index})
            try:
                record = task.shards.run(task.index)
            except Exception:
                store.write_failure(key, {CONFIG: config, ERROR: traceback.format_exc()})
                return (Outcome(key, "failed"),)
            store.write_cell(key, {CONFIG: config, RESULT: as_text(record)})
    except Timeout:
        return (Outcome(key, "busy"),)
    seconds = time.perf_counter() - start
    return (Outcome(key, "done", seconds, seconds),)
