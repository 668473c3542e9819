"""A study on a Dask cluster of this machine: a scheduler and two worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from pyrolvm.core import RunFolderError
from pyrolvm.studies import BackendError, Study, backends
from pyrolvm.studies.worker import Task, run_task

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
STUDY = """name = "clustered"
[[grid]]
model = {name = "linear-gaussian", latent_dim = 1, obs_dim = 2}
guide = ["full:affine", "exact"]
data = "simulated:20"
steps = 2
test_size = 4
particles = 20
oracle_steps = 2
seed = [0, 1, 2]
"""


def dask(folder, *arguments):
    """Start one process of Dask."""
    with (folder / "dask.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, "--no-dashboard"], cwd=folder, stdout=log,
            stderr=log, env=ENVIRONMENT, start_new_session=True,
        )  # fmt: skip


def stop(processes):
    for process in reversed(processes):
        process.terminate()
    for process in reversed(processes):
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition, folder, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (folder / "dask.log").read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Address of a scheduler that has no workers yet, and a way to start them."""
    folder = tmp_path_factory.mktemp("dask")
    record = folder / "scheduler.json"
    processes = [
        dask(folder, "scheduler", "--port", "0", "--host", "127.0.0.1",
             "--scheduler-file", str(record))
    ]  # fmt: skip

    def add_workers():
        processes.extend(
            dask(folder, "worker", "--scheduler-file", str(record), "--nthreads", "1",
                 "--no-nanny", "--local-directory", str(folder / name), "--host", "127.0.0.1")
            for name in ("first", "second")
        )  # fmt: skip

    try:
        wait_for(lambda: record.exists() and record.read_text().endswith("}"), folder)
        yield json.loads(record.read_text())["address"], add_workers
    finally:
        stop(processes)


def study(folder, *options):
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    command = [sys.executable, "-m", "pyrolvm.cli", "study", "study.toml", "--backend", "dask"]
    return subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, check=False,
        env=ENVIRONMENT,
    )  # fmt: skip


def test_a_scheduler_without_workers_is_named(scheduler, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "PATIENCE", 0.5)
    with pytest.raises(BackendError, match=r"has no workers\. Start some: dask worker tcp://"):
        tiny().run(out=tmp_path, backend="dask", scheduler=scheduler[0], progress=False)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://here"])
def test_a_scheduler_that_does_not_answer_is_named(tiny, tmp_path, monkeypatch, address):
    monkeypatch.setattr(backends, "PATIENCE", 0.5)
    with pytest.raises(BackendError, match=f"No Dask scheduler answers at {address}"):
        tiny().run(out=tmp_path, backend="dask", scheduler=address, progress=False)


def test_workers_that_do_not_see_the_folder_are_named(tmp_path):
    client = SimpleNamespace(
        wait_for_workers=lambda number, timeout: None,
        run=lambda function, path: {"tcp://a:1": function(path), "tcp://b:2": False},
    )
    wanted = r"1 of 2 workers do not see the folder .*: tcp://b:2\. Choose an --out on a disk"
    with pytest.raises(BackendError, match=wanted):
        backends._check_workers(client, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_worker_makes_no_folder_of_its_own(tiny, tmp_path):
    (cell,) = tiny().cells
    task = Task(str(tmp_path / "elsewhere"), (cell.configuration,), os.getpid(), "", False, False)
    with pytest.raises(RunFolderError, match="does not see the folder"):
        run_task(task)
    assert not list(tmp_path.iterdir())


def test_a_cluster_finds_what_this_process_finds(scheduler, tmp_path):
    address, add_workers = scheduler
    add_workers()
    done = study(tmp_path, "--scheduler", address, "--out", "out")
    assert done.returncode == 0, done.stderr
    here = Study.from_toml(tmp_path / "study.toml").run(out=tmp_path / "here", progress=False)
    wanted = {key: (tmp_path / "here" / "cells" / key / "result.json").read_bytes()
              for key in here.frame["cell"]}  # fmt: skip
    found = {path.parent.name: path.read_bytes()
             for path in (tmp_path / "out").glob("cells/*/result.json")}  # fmt: skip
    assert found == wanted
