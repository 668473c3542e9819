"""Runners that share a folder, and runners that are killed: every cell once, the same results."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyrolvm.studies import Study

TOML = """name = "survivor"
[[grid]]
model = {{name = "linear-gaussian", latent_dim = 1, obs_dim = 2}}
guide = ["full:affine", "diagonal:affine"]
data = "simulated:20"
steps = 2
batch_size = 0
test_size = 4
particles = 20
oracle_steps = 0
seed = {seeds}
"""
RACER = """
import json, os, sys, time
from pathlib import Path
from pyrolvm.studies import Study
from pyrolvm.studies.runner import Plan, run_cells
from pyrolvm.studies.store import Store
study, store, me = Study.from_toml("study.toml"), Store(Path("out")), sys.argv[1]
study.cells
Path(f"ready-{me}").touch()
while len(list(Path().glob("ready-*"))) < 2:
    time.sleep(0.01)
store.claim(study.name, {})
outcomes = run_cells(study.name, study.cells, store, Plan(progress=False))
print(json.dumps([[each.key, each.state] for each in outcomes if each.seconds]))
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "JOBLIB_TEMP_FOLDER", str(tmp_path / "joblib"))


def write_study(folder, cells):
    path = folder / "study.toml"
    path.write_text(TOML.format(seeds=list(range(cells // 2))), encoding="utf-8")
    return path


def start(folder, *arguments):
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, stdout=log, stderr=log, env=ENVIRONMENT,
            start_new_session=True, preexec_fn=heed_ctrl_c,  # noqa: PLW1509 - no threads here
        )  # fmt: skip


def heed_ctrl_c():
    """A shell lets its background jobs ignore Ctrl-C, and so would every process below."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command():
    return ["-m", "pyrolvm.cli", "study", "study.toml", "--out", "out", "--jobs", "2"]


def finished(folder):
    return list((folder / "out" / "cells").glob("[!.]*"))


def results(folder):
    return {path.name: (path / "result.json").read_bytes() for path in finished(folder)}


def kill_after(process, folder, cells, delay):
    """Kill a runner and its workers some time after it has finished a number of cells."""
    before, deadline = len(finished(folder)), time.monotonic() + 120
    while len(finished(folder)) < before + cells and process.poll() is None:
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.002)
    time.sleep(delay)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for left in SHARED_MEMORY.glob("sem.loky-*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            left.unlink(missing_ok=True)  # a pool that is killed cannot remove them


def survives(folder, cells, kills, chance):
    whole = folder / "whole"
    whole.mkdir()
    Study.from_toml(write_study(whole, cells)).run(out=whole / "out", progress=False)
    write_study(folder, cells)
    for _ in range(kills):
        number = chance.randint(1, max(1, cells // kills - 1))
        kill_after(start(folder, *command()), folder, number, chance.uniform(0.0, 0.1))
    killed_at = len(finished(folder))
    Study.from_toml(folder / "study.toml").run(out=folder / "out", progress=False)
    assert killed_at > 0
    assert results(folder) == results(whole)
    assert len(results(folder)) == cells
    assert not list((folder / "out").rglob(".*"))


def test_a_runner_that_is_killed_three_times_goes_on_to_the_end(tmp_path):
    survives(tmp_path, cells=24, kills=3, chance=random.Random(0))


@pytest.mark.slow
def test_a_runner_that_is_killed_ten_times_goes_on_to_the_end(tmp_path):
    survives(tmp_path, cells=200, kills=10, chance=random.Random())


def test_two_runners_on_one_folder_run_every_cell_once(tmp_path):
    study = Study.from_toml(write_study(tmp_path, 30))
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, name], cwd=tmp_path, stdout=subprocess.PIPE,
            text=True, env=ENVIRONMENT,
        )
        for name in "ab"
    ]  # fmt: skip
    shares = [json.loads(racer.communicate()[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    ran = [key for share in shares for key, state in share]
    assert sorted(ran) == sorted(cell.key for cell in study.cells)
    assert all(state == "done" for share in shares for _, state in share)
    assert all(shares)


def test_ctrl_c_stops_with_one_sentence(tmp_path):
    write_study(tmp_path, 40)
    process = start(tmp_path, *command())
    deadline = time.monotonic() + 60
    while len(finished(tmp_path)) < 3:
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    log = (tmp_path / "log").read_text()
    assert "the same command goes on from here" in log
    assert "Traceback" not in log
