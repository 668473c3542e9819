"""Steps of every way of a case, in turns, and what the first ones take."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pandas as pd
import pyro

from benchmarks.interleaved import Timed, in_turns
from benchmarks.svi_steps.cases import CASES
from benchmarks.svi_steps.numpyro_ways import numpyro_ways
from benchmarks.svi_steps.warm_start import WAYS, in_new_process
from benchmarks.svi_steps.ways import ways_of
from pyrolvm.core.randomness import own_randomness


@dataclass(frozen=True)
class StepTimes:
    """What was found for a case.

    Args:
        rounds: As of :func:`benchmarks.interleaved.in_turns`, with a column ``case``.
        starts: CPU and wall seconds until three steps (calls) are taken, for each way:
            ``in this process``, and for compiled ones ``with code on disk``, in a new process.
    """

    rounds: pd.DataFrame
    starts: pd.DataFrame


def step_times(name: str, rounds: int, seconds: float, warm: bool = True) -> StepTimes:
    """Time all ways of a case.

    Args:
        name: Of the case.
        rounds: How often.
        seconds: CPU time of a way in a round.
        warm: Whether to time starts with code on disk, too.
    """
    case = CASES[name]
    timed, starts = {}, []
    with own_randomness(0), pyro.get_param_store().scope():
        for way in [*ways_of(case), *numpyro_ways(case)]:
            wall, cpu = time.perf_counter(), time.process_time()
            made = way(case)
            for _ in range(3):
                made.take(made.at_once)
            spent = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
            starts.append({"case": name, "way": made.name, "start": "in this process", **spent})
            timed[made.name] = Timed(made.take, made.at_once)
        found = in_turns(timed, rounds, seconds)
    for key, way in WAYS.items() if warm else ():
        if way.name in timed:
            spent = in_new_process(name, key)
            starts.append({"case": name, "way": way.name, "start": "code on disk", **spent})
    return StepTimes(found.assign(case=name), pd.DataFrame(starts))
