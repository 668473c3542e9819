"""How fast a study runs, two processes against one: ``python -m benchmarks.study_throughput``.

Cells of a linear Gaussian model are run with one process and with two, in turns, so that a machine
that gets busier slows both; then through a Dask cluster of two workers. Times begin when the
processes are warm. The overhead of a cell is the time of the loop less that of training and
scoring.

Measured on a 2-core EPYC VM (torch 2.13, load 1.0 to 1.8): 22.7 against 43.1 cells/s (ratio 1.9)
for cells of one step, 1.35 against 2.86 (2.1) for cells of 300 steps, overhead 3 to 4 ms a cell;
Dask 2.2 cells/s, 32 ms. While others kept the machine at load 4.4 the ratios were 1.4 and 1.2, the
overhead 12 to 14 ms.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from pyrolvm.studies import Study
from pyrolvm.studies.runner import Plan, run_cells
from pyrolvm.studies.store import Store
from pyrolvm.studies.worker import Outcome

CELLS = 24
ROUNDS = 3


def make_study(steps: int, first_seed: int) -> Study:
    """A study of equal cells, no two studies of different first seeds share one."""
    block = {
        "model": {"name": "linear-gaussian", "latent_dim": 2, "obs_dim": 8},
        "guide": "full:16",
        "data": "simulated:500",
        "steps": steps,
        "oracle_steps": 0,
        "test_size": 100,
        "particles": 200,
        "seed": list(range(first_seed, first_seed + CELLS)),
    }
    return Study("throughput", [block])


def seconds(study: Study, plan: Plan) -> tuple[float, list[Outcome]]:
    """Wall time of the cell loop in a new folder, and the outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "study")
        store.claim(study.name, {})
        cells = study.cells
        start = time.perf_counter()
        outcomes = run_cells(study.name, cells, store, plan)
        return time.perf_counter() - start, outcomes


def overhead(spent: float, outcomes: list[Outcome], workers: int) -> float:
    """Milliseconds a cell that are neither training nor scoring, with all workers counted."""
    return 1000 * (workers * spent - sum(each.seconds for each in outcomes)) / len(outcomes)


def compare_processes(steps: int) -> None:
    """Time one process and two, in turns."""
    one, two = Plan(1, progress=False), Plan(2, progress=False)
    seconds(make_study(1, 10_000), two)  # starts the processes
    seconds(make_study(1, 20_000), one)
    found: dict[int, list[float]] = {1: [], 2: []}
    extra = []
    for number in range(ROUNDS):
        study = make_study(steps, number * CELLS)
        for workers, plan in ((1, one), (2, two)):
            spent, outcomes = seconds(study, plan)
            found[workers].append(CELLS / spent)
            if workers == 1:
                extra.append(overhead(spent, outcomes, 1))
    ratios = [b / a for a, b in zip(found[1], found[2], strict=True)]
    print(
        f"{steps} steps a cell: {statistics.median(found[1]):.2f} cells/s with one process, "
        f"{statistics.median(found[2]):.2f} with two, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}); overhead {statistics.median(extra):.1f} ms a "
        f"cell; load {os.getloadavg()[0]:.2f}"
    )


def through_dask(steps: int) -> None:
    """Time a Dask cluster of two worker processes."""
    from distributed import LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with LocalCluster(dashboard_address=None, **options) as cluster:
        plan = Plan(1, "dask", cluster.scheduler_address, progress=False)
        seconds(make_study(1, 30_000), plan)
        spent, outcomes = seconds(make_study(steps, 40_000), plan)
    print(
        f"Dask, two workers: {CELLS / spent:.2f} cells/s, "
        f"{overhead(spent, outcomes, 2):.1f} ms a cell besides training and scoring "
        f"(two workers counted); load {os.getloadavg()[0]:.2f}"
    )


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.2f}")
    for steps in (1, 300):
        compare_processes(steps)
    through_dask(300)


if __name__ == "__main__":
    main()
