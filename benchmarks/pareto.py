"""How fast k-hat of many data is: ``python -m benchmarks.pareto``.

1,000 data with 1,000 draws each: ``pareto_khat`` fits all tails at once; ArviZ's ``psislw`` is
called once a row, as its own loop over data does, and once on the whole array. All take turns, so
that a machine that gets busier slows all; times are CPU milliseconds of one thread. ArviZ rounds
the length of the tail down where the paper, ``loo`` and Pyro round it up (94 and 95 of 1,000
draws), so for the comparison of values it is told of slightly more effective draws.

Measured on a 2-core EPYC VM (torch 2.13, arviz-stats 0.8.0) at load 4: 39 ms against 329 ms row by
row and 290 ms as an array, that is 8.9 (7.6 to 10.2) and 7.7 (6.6 to 11.3) times as fast, medians
of nine rounds; the largest difference of a k-hat is 1e-13.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.diagnostics import pareto_khat, tail_length

NUM_DATA = 1000
NUM_DRAWS = 1000
ROUNDS = 9


def log_weights() -> Tensor:
    """Log-normal weights, from nearly constant to very heavy tailed."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(NUM_DRAWS, NUM_DATA, dtype=torch.float64, generator=generator)
    return draws * torch.linspace(0.1, 4.0, NUM_DATA, dtype=torch.float64)


def by_row(weights: NDArray[np.float64], r_eff: float = 1.0) -> NDArray[np.float64]:
    """ArviZ, one call a datum; it takes log likelihoods, so the sign is turned."""
    return np.array([array_stats.psislw(-row, r_eff=r_eff)[1] for row in weights.T])


def as_array(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """ArviZ, one call for all data."""
    return np.asarray(array_stats.psislw(-weights, axis=0)[1])


def milliseconds(run: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    run()
    return 1000 * (time.process_time() - start)


def main() -> None:
    """Compare values, then times."""
    torch.set_num_threads(1)
    weights = log_weights()
    array = weights.numpy()
    r_eff = NUM_DRAWS / ((tail_length(NUM_DRAWS) + 0.01) / 3) ** 2
    difference = np.abs(pareto_khat(weights).numpy() - by_row(array, r_eff)).max()
    print(f"largest difference of a k-hat at the same tail length: {difference:.1e}")
    assert difference < 1e-8
    ways = {
        "pareto_khat": lambda: pareto_khat(weights),
        "ArviZ row by row": lambda: by_row(array),
        "ArviZ array": lambda: as_array(array),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            spent[name].append(milliseconds(run))
    for name, times in spent.items():
        ratios = [time / own for time, own in zip(times, spent["pareto_khat"], strict=True)]
        print(
            f"{name:18} {statistics.median(times):7.1f} ms   "
            f"{statistics.median(ratios):5.1f} times ({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
