"""Where cells run: in this process, in processes of this machine, on a Dask or a Ray cluster.

All of them are backends of joblib. A cluster's workers must see the folder of the study under the
same path, and have PyroLVM installed; a Dask worker should have one thread (``dask worker
--nthreads 1``), because its threads take turns. For Ray, ``pip install "ray[default]"`` and start
a cluster (``ray start --head``), or let Ray start one on this machine.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from pyrolvm.core import PyroLVMError, UnknownNameError
from pyrolvm.studies.worker import Outcome, run_task

BACKENDS = ("local", "dask", "ray")
PATIENCE = 10
"""Seconds that a scheduler has to answer."""


class BackendError(PyroLVMError, RuntimeError):
    """Cells cannot be run where they were asked to be."""


class Backend(contextlib.AbstractContextManager["Backend"]):
    """A place where cells run; as a context manager it is set up and taken down.

    Args:
        name: ``"local"``, ``"dask"`` or ``"ray"``.
        n_jobs: Processes of this machine; a cluster says itself how many it has.
        scheduler: Address of a Dask scheduler, ``"tcp://…"``.
        folder: Of the study; a cluster's workers must see it.

    Raises:
        UnknownNameError: If there is no such backend.
        BackendError: If its package is missing, nobody answers, there are no workers, or they do
            not see the folder.
    """

    def __init__(self, name: str, n_jobs: int, scheduler: str | None, folder: Path) -> None:
        if name not in BACKENDS:
            raise UnknownNameError("backend", name, BACKENDS)
        if scheduler is not None and name != "dask":
            raise BackendError(f"A scheduler is Dask's, but the backend is {name!r}: drop one.")
        self.name, self.scheduler, self.folder = name, scheduler, folder
        self.num_workers = n_jobs
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Backend:
        with self._stack:
            if self.name == "dask":
                client = self._stack.enter_context(_dask_client(self.scheduler))
                self.num_workers = _check_workers(client, self.folder)
                self._stack.enter_context(
                    parallel_config("dask", client=client, n_jobs=self.num_workers)
                )
            elif self.name == "ray":
                _register_ray()
                self._stack.enter_context(parallel_config("ray", n_jobs=-1))
            elif self.num_workers > 1:
                self._stack.enter_context(parallel_config("loky", inner_max_num_threads=1))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def run(
        self, tasks: Sequence[Any], work: Callable[[Any], tuple[Outcome, ...]] = run_task
    ) -> Iterator[Outcome]:
        """Run tasks, and hand out their outcomes as they come.

        Args:
            tasks: One for each cell, or for cells that are trained together.
            work: Runs one; that of a study, unless the folder holds other cells.

        Raises:
            BackendError: If a process that runs cells dies.
        """
        if self.name == "local" and min(self.num_workers, len(tasks)) <= 1:
            for task in tasks:
                yield from work(task)
            return
        try:
            for outcomes in self._run(tasks, work):
                yield from outcomes
        except self._deaths() as error:
            raise BackendError(
                "A process that ran a cell has died, most likely for want of memory. Finished "
                "cells are safe: the same command goes on from there; fewer --jobs need less."
            ) from error

    def _deaths(self) -> tuple[type[Exception], ...]:
        """What is raised where a process that runs cells dies."""
        if self.name != "dask":
            return (TerminatedWorkerError,)
        from distributed import KilledWorker

        return (TerminatedWorkerError, KilledWorker)

    def _run(
        self, tasks: Sequence[Any], work: Callable[[Any], tuple[Outcome, ...]]
    ) -> Iterator[tuple[Outcome, ...]]:
        jobs = None if self.name != "local" else min(self.num_workers, len(tasks))
        calls = (delayed(work)(task) for task in tasks)
        if self.name == "ray":  # its pool of joblib hands out results all at once
            yield from Parallel(batch_size=1)(calls)
            return
        ahead = "all" if self.name == "dask" else "2*n_jobs"  # workers may join a cluster later
        pool = Parallel(jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=ahead)
        found = pool(calls)
        with contextlib.closing(found):
            yield from found


@contextlib.contextmanager
def _dask_client(scheduler: str | None) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise BackendError(
            'The backend "dask" needs Dask, which is not installed: '
            'pip install "pyrolvm[cluster]".'
        ) from error
    if scheduler is None:
        raise BackendError(
            'The backend "dask" needs the address of a scheduler: --scheduler tcp://host:8786. '
            "Start one with: dask scheduler; and on each machine: dask worker tcp://host:8786 "
            "--nthreads 1 --nworkers 2."
        )
    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise BackendError(
            f"No Dask scheduler answers at {scheduler} within {PATIENCE} s ({error}). "
            "Start it (dask scheduler), or correct the address."
        ) from error
    with client:
        yield client


def _check_workers(client: Any, folder: Path) -> int:
    """Number of workers, all of which see the folder of the study."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise BackendError(
            f"The Dask scheduler {client.scheduler.address} has no workers. Start some: "
            f"dask worker {client.scheduler.address} --nthreads 1 --nworkers 2."
        ) from error
    token = folder / f".seen-by-workers.{uuid.uuid4().hex}.part"
    token.touch()
    try:
        seen = client.run(os.path.exists, str(token))
    finally:
        token.unlink()
    blind = sorted(address for address, sees in seen.items() if not sees)
    if blind:
        raise BackendError(
            f"{len(blind)} of {len(seen)} workers do not see the folder {folder}: "
            f"{', '.join(blind)}. Choose an --out on a disk that all machines share."
        )
    return len(seen)


def _register_ray() -> None:
    try:
        from ray.util.joblib import register_ray  # type: ignore[import-not-found]
    except ImportError as error:
        raise BackendError(
            'The backend "ray" needs Ray, which is not installed: pip install "ray[default]".'
        ) from error
    register_ray()
