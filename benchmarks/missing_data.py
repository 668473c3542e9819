"""Missing data, every row with its own pattern: ``python -m benchmarks.missing_data``.

Seconds of CPU time and their ratio to the same number of complete rows, which take one E-step.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable

import torch

from pyrolvm.exact import (
    AffineStack,
    Partition,
    impute_from,
    log_evidence_observed,
    solve,
    solve_observed,
)
from pyrolvm.models import CPAGenerator

SIZE, DIM = 500, 64
SETTINGS = [(1, (32,)), (2, (16,)), (2, (24,)), (3, (8,))]


def median_time(run: Callable[[], object], repeats: int = 3) -> float:
    """Median CPU seconds, after one call that compiles."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


@torch.no_grad()
def measure(latent_dim: int, hidden: tuple[int, ...]) -> str:
    """One row of the table: complete rows, one pattern, as many patterns as rows, imputation."""
    torch.manual_seed(0)
    model = CPAGenerator(latent_dim, DIM, hidden, 0.2).double()
    stack, x = AffineStack.of(model.affine_stack), model(size=SIZE)
    regions = Partition.of(stack)
    half, holes = x.clone(), x.clone()
    half[:, : DIM // 2] = torch.nan
    holes[torch.rand(SIZE, DIM) < 0.5] = torch.nan
    solved = solve_observed(stack, holes, partition=regions)
    complete = median_time(lambda: solve(stack, x, partition=regions))
    rest = [
        median_time(lambda: log_evidence_observed(stack, half, partition=regions)),
        median_time(lambda: log_evidence_observed(stack, holes, partition=regions)),
        median_time(lambda: impute_from(stack, holes, solved)),
    ]
    ratios = "".join(f"{t:10.3f} s {t / complete:5.1f}x" for t in rest)
    return f"{latent_dim} {hidden!s:6} {regions.num_regions:6d} {complete:9.3f} s{ratios}"


def main() -> None:
    """Print the table."""
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, load {load:.1f}, {torch.get_num_threads()} threads of torch")
    print(f"{SIZE} rows of {DIM}; S, hidden, regions; complete rows, one pattern of missing "
          f"entries, {SIZE} patterns, moments of imputation")  # fmt: skip
    for latent_dim, hidden in SETTINGS:
        print(measure(latent_dim, hidden))


if __name__ == "__main__":
    main()
