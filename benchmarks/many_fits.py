"""Sixteen fits of the tiny VAE: one after another, and as one program.

A step of all sixteen is what counts. ``lvm.fit_ensemble`` trains the pair of the zoo, of the same
sizes, and counts as a long training minus a short one, so that what comes before the first step is
not part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyro

import pyrolvm as lvm
from benchmarks.interleaved import Timed, TimedFromScratch, in_turns
from benchmarks.svi_steps.cases import CASES, LEARNING_RATE, Case
from benchmarks.svi_steps.numpyro_ways import Jitted, Scanned, numpyro_ways
from benchmarks.svi_steps.ways import ByHand, Compiled, PyroSVI, Uncompiled, Way
from pyrolvm import guides, models
from pyrolvm.core.randomness import own_randomness

NUM_FITS = 16
CASE = CASES["tiny-vae"]
BASE = "Pyro SVI, one after another"


class Vmapped(Jitted):
    """NumPyro's update, mapped over sixteen states and jitted."""

    name = "NumPyro, vmapped and jitted"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import jax

        keys = jax.random.split(jax.random.PRNGKey(0), NUM_FITS)
        self.state = jax.vmap(lambda key: self.svi.init(key, self.rows))(keys)
        self.update = jax.jit(jax.vmap(self.svi.update, in_axes=(0, None)))

    def call(self) -> float:
        """Take a step of all."""
        self.state, losses = self.update(self.state, self.rows)
        return float(losses.reshape(-1).tolist()[-1])


class VmappedScanned(Vmapped):
    """The same, many updates in one scan."""

    name = "NumPyro, vmapped and scanned"
    at_once = Scanned.at_once

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        import jax

        update = jax.vmap(self.svi.update, in_axes=(0, None))

        def updates(state: Any, rows: Any) -> Any:
            return jax.lax.scan(lambda s, _: update(s, rows), state, None, length=self.at_once)

        self.update = jax.jit(updates)


def one_after_another(way: type[Way]) -> Timed:
    """Sixteen fits that take their steps in turn."""
    fits = [way(CASE) for _ in range(NUM_FITS)]
    for fit in fits:
        fit.take(3)

    def take(steps: int) -> None:
        for fit in fits:
            fit.take(steps)

    return Timed(take)


def together(compile: bool) -> Callable[[int], None]:
    """Return ``lvm.fit_ensemble`` of a number of steps."""
    x = CASE.batch()

    def train(steps: int) -> None:
        lvm.fit_ensemble(
            lambda: models.VAE(2, 2, hidden=(32, 32), noise_scale=1.0),
            lambda model: guides.Amortized(model, hidden=(32, 32)),
            x, seeds=range(NUM_FITS), steps=steps, batch_size=len(x),
            learning_rate=LEARNING_RATE, compile=compile, progress=False,
        )  # fmt: skip

    return train


def measure(rounds: int, seconds: float, more: int) -> pd.DataFrame:
    """Time all ways in turns.

    Args:
        rounds: How often.
        seconds: CPU time of a way in a round.
        more: Steps by which the long training of an ensemble is longer.

    Returns:
        As :func:`benchmarks.interleaved.in_turns`; a step is one of all sixteen fits.
    """
    alone = [PyroSVI, ByHand, Uncompiled, Compiled, *numpyro_ways(CASE)[:1]]
    with own_randomness(0), pyro.get_param_store().scope():
        ways: dict[str, Any] = {
            f"{way.name}, one after another": one_after_another(way) for way in alone
        }
        if numpyro_ways(CASE):
            for way in (Vmapped, VmappedScanned):
                made = way(CASE)
                made.take(made.at_once)
                ways[way.name] = Timed(made.take, made.at_once)
        for compile in (False, True):
            name = f"PyroLVM, fit_ensemble {'compiled' if compile else 'eager'}"
            train = together(compile)
            train(10)  # compiles what is not on disk
            ways[name] = TimedFromScratch(train, 10, more if compile else more // 4)
        return in_turns(ways, rounds, seconds)
