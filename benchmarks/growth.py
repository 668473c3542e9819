r"""How cost grows with the number of data, draws and regions.

.. math:: t \approx c \, n^a

with the exponent a of a straight line through the times on logarithmic axes. All sizes of all
curves take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from benchmarks.exact_posterior import observe
from benchmarks.exact_regions import generator
from benchmarks.interleaved import Timed, in_turns
from pyrolvm import guides, models
from pyrolvm.core import log_densities
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnostics import pareto_khat
from pyrolvm.exact import Partition, solve

Task = Callable[[], object]


@dataclass(frozen=True)
class Curve:
    """One cost as a function of one size.

    Args:
        cost: What is timed.
        size: What grows.
        tasks: What to run, by the value of the size.
    """

    cost: str
    size: str
    tasks: dict[int, Task]

    @property
    def title(self) -> str:
        """Cost and size in words."""
        return f"{self.cost} against {self.size}"


def exponent(sizes: ArrayLike, times: ArrayLike) -> float:
    """Return the slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(np.asarray(sizes)), np.log(np.asarray(times)), 1)[0])


def curves(quick: bool = False) -> list[Curve]:
    """Return all curves.

    Args:
        quick: Whether to take small sizes, which show that it runs and no more.
    """
    few = slice(0, 3) if quick else slice(None)
    numbers = (250, 500, 1000, 2000, 4000, 8000)[few]
    draws = (100, 200, 400, 800, 1600, 3200)[few]
    widths = (8, 12, 16, 24, 32, 48, 64)[few]
    with own_randomness(0):
        return [
            *_exact(numbers, widths),
            *_densities(numbers, draws),
            *_khat(numbers, draws),
        ]


def _exact(numbers: Sequence[int], widths: Sequence[int]) -> list[Curve]:
    """Exact posterior of a ReLU generator with two latents: data, then regions."""
    stack = generator(2, (32, 32), 8)
    x = observe(stack, max(numbers))
    by_data = {number: _task(solve, stack, x[:number]) for number in numbers}
    by_regions, enumeration = {}, {}
    for width in widths:
        wide = generator(2, (width, width), 8)
        regions = Partition.of(wide, max_regions=10**6).num_regions
        by_regions[regions] = _task(solve, wide, observe(wide, 500))
        enumeration[regions] = _task(Partition.of, wide, max_regions=10**6)
    return [
        Curve("exact posterior", "data N", by_data),
        Curve("exact posterior of 500 data", "regions", by_regions),
        Curve("finding the regions", "regions", enumeration),
    ]


def _densities(numbers: Sequence[int], draws: Sequence[int]) -> list[Curve]:
    model = models.VAE(10, 64, hidden=(64,))
    guide = guides.Amortized(model, hidden=(64,))
    x = model(size=max(numbers)).detach()
    rows = {number: _task(log_densities, model, guide, x[:number]) for number in numbers}
    particles = {
        number: _task(log_densities, model, guide, x[:100], num_particles=number)
        for number in draws
    }
    return [
        Curve("log densities", "data N", rows),
        Curve("log densities", "draws K", particles),
    ]


def _khat(numbers: Sequence[int], draws: Sequence[int]) -> list[Curve]:
    weights = torch.randn(max(draws), 500, dtype=torch.float64)
    many = torch.randn(500, max(numbers), dtype=torch.float64)
    return [
        Curve("k-hat", "data N", {n: _task(pareto_khat, many[:, :n]) for n in numbers}),
        Curve("k-hat", "draws K", {k: _task(pareto_khat, weights[:k]) for k in draws}),
    ]


def _task(run: Callable[..., object], *args: object, **settings: object) -> Task:
    return lambda: run(*args, **settings)


def measure(rounds: int, quick: bool = False) -> pd.DataFrame:
    """Time all sizes of all curves in turns.

    Args:
        rounds: How often.
        quick: As in :func:`curves`.

    Returns:
        One row a curve, size and round: ``curve``, ``size``, ``cpu_ms``, ``load``.
    """
    timed, places = {}, {}
    for curve in curves(quick):
        for size, task in curve.tasks.items():
            name = f"{curve.title}: {size}"
            timed[name] = Timed(_repeated(task))
            places[name] = {"curve": curve.title, "size": size}
    found = in_turns(timed, rounds, 1e-3)
    table = pd.DataFrame([places[name] for name in found["way"]])
    return table.assign(round=found["round"], cpu_ms=found["cpu_us"] / 1000, load=found["load"])


def _repeated(task: Task) -> Callable[[int], None]:
    def take(times: int) -> None:
        for _ in range(times):
            task()

    return take


def exponents(rounds: pd.DataFrame) -> pd.DataFrame:
    """Fit an exponent to each curve.

    Args:
        rounds: From :func:`measure`.

    Returns:
        One row a curve: ``exponent`` of the medians, ``low`` and ``high`` of single rounds, sizes
        ``from`` and ``to``, and the median milliseconds there.
    """
    found = {}
    for curve, rows in rounds.groupby("curve"):
        medians = rows.groupby("size")["cpu_ms"].median()
        single = [exponent(each["size"], each["cpu_ms"]) for _, each in rows.groupby("round")]
        found[curve] = {
            "exponent": exponent(medians.index, medians), "low": min(single), "high": max(single),
            "from": medians.index[0], "to": medians.index[-1],
            "from_ms": medians.iloc[0], "to_ms": medians.iloc[-1],
        }  # fmt: skip
    return pd.DataFrame.from_dict(found, orient="index")
