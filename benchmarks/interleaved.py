"""Timing in turns: in each round every way runs for a while, in random order.

A machine that gets busier then slows all of them, and their ratios within a round stand. CPU
seconds of the process count; wall time stands beside them.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

Seconds = tuple[float, float]
MOST_STEPS = 100_000


@dataclass(frozen=True)
class Timed:
    """Something that takes steps for as long as one likes.

    Args:
        take: Takes a number of steps.
        at_once: Steps that it takes together; it is asked for multiples of them.
    """

    take: Callable[[int], object]
    at_once: int = 1

    def seconds(self, steps: int) -> Seconds:
        """CPU and wall seconds of so many steps."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.take(steps)
        return time.process_time() - cpu, time.perf_counter() - wall

    def warm_up(self) -> None:
        """Bring code and data back into the caches."""
        self.take(self.at_once)

    def steps_in(self, seconds: float) -> int:
        """Number of steps that take about so many CPU seconds."""
        steps = self.at_once
        while steps < MOST_STEPS:
            spent, _ = self.seconds(steps)
            if spent > seconds / 4:
                return self.at_once * max(1, round(steps / self.at_once * seconds / spent))
            steps *= 2
        return steps


@dataclass(frozen=True)
class TimedFromScratch:
    """A training that sets itself up each time; a long one minus a short one is what counts.

    Args:
        train: Trains for a number of steps.
        short: Steps of the short one.
        more: Further steps of the long one.
    """

    train: Callable[[int], object]
    short: int
    more: int

    def seconds(self, steps: int) -> Seconds:
        """CPU and wall seconds of so many steps, without what comes before the first."""
        timed = Timed(self.train)
        few, many = timed.seconds(self.short), timed.seconds(self.short + steps)
        return many[0] - few[0], many[1] - few[1]

    def warm_up(self) -> None:
        """Nothing: the short training does it."""

    def steps_in(self, seconds: float) -> int:
        """The given number of further steps, whatever they take."""
        return self.more


def in_turns(
    ways: Mapping[str, Timed | TimedFromScratch], rounds: int, seconds: float
) -> pd.DataFrame:
    """Time every way in every round.

    Args:
        ways: By name.
        rounds: How often.
        seconds: CPU time of a way in a round.

    Returns:
        One row a way and round: ``cpu_us`` and ``wall_us`` of a step, ``steps``, ``load``.
    """
    steps = {name: timed.steps_in(seconds) for name, timed in ways.items()}
    order, found = random.Random(0), []
    for number in range(rounds):
        names = list(ways)
        order.shuffle(names)
        for name in names:
            gc.collect()
            ways[name].warm_up()
            cpu, wall = ways[name].seconds(steps[name])
            found.append(
                {
                    "round": number, "way": name, "steps": steps[name],
                    "cpu_us": 1e6 * cpu / steps[name], "wall_us": 1e6 * wall / steps[name],
                    "load": os.getloadavg()[0],
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def ratios(rounds: pd.DataFrame, base: str, column: str = "cpu_us") -> pd.DataFrame:
    """Ratio of each way to another one of the same round.

    Args:
        rounds: From :func:`in_turns`.
        base: The way that the others are compared with.
        column: What is compared.

    Returns:
        One row a way: ``median_us``, and ``ratio``, ``low``, ``high``, its median and range.
    """
    times = rounds.pivot(index="round", columns="way", values=column)
    each = times.div(times[base], axis=0)
    found = {
        "median_us": times.median(), "ratio": each.median(), "low": each.min(), "high": each.max(),
        "lower_quartile": each.quantile(0.25), "upper_quartile": each.quantile(0.75),
    }  # fmt: skip
    return pd.DataFrame(found).loc[list(dict.fromkeys(rounds["way"]))]
