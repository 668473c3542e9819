"""Train the runs of a cell."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pyrolvm.core import Data
from pyrolvm.core.randomness import own_randomness
from pyrolvm.fit_ensemble import fit_ensemble
from pyrolvm.fit_exact import fit_exact
from pyrolvm.identifiability import fix_sign_by
from pyrolvm.objectives import AnchoredWarmStart
from pyrolvm.studies.identifiability.cells import Cell
from pyrolvm.studies.identifiability.worlds import StudySettings, World

FLOW_BATCH, BATCH = 512, 256
LEARNING_RATE = 1e-2


@dataclass(frozen=True)
class Run:
    """A trained pair.

    Args:
        seed: Of its start, minibatches and draws.
        model: The model.
        guide: Its guide.
        seconds: Wall time of its training; of runs that are trained together an equal share.
    """

    seed: int
    model: Any
    guide: Any
    seconds: float


def trained(
    cell: Cell, world: World, seeds: Sequence[int], settings: StudySettings, progress: bool
) -> Iterator[Run]:
    """Train runs of a cell, those on the ELBO all at once.

    Args:
        cell: What to train; not one that turns the runs of another.
        world: Its data.
        seeds: One a run.
        settings: Sizes.
        progress: Whether to show how far it is.
    """
    if cell.training == "elbo":
        yield from _by_elbo(cell, world, seeds, settings, progress)
        return
    for seed in seeds:
        yield _by_likelihood(cell, world, seed, settings, progress)


def turned(run: Run, world: World) -> Run:
    """Mirror a run of one latent where x_1 falls with z: g(z) becomes g(−z), the same law of x."""
    with torch.no_grad():
        codes = run.guide.posterior(world.x).mean
        if not bool(torch.equal(fix_sign_by(world.x, codes), codes)):
            run.model.decoder[0].weight.neg_()
    return run


def _by_likelihood(
    cell: Cell, world: World, seed: int, settings: StudySettings, progress: bool
) -> Run:
    with own_randomness(seed):
        model, _ = cell.make(world)
    bar = f"{cell.key}, seed {seed}" if progress else False
    if cell.training == "flow":
        found = fit_exact(
            model, world.train, optimizer="adam", steps=settings.flow_steps,
            batch_size=FLOW_BATCH, learning_rate=LEARNING_RATE, seed=seed, progress=bar,
        )  # fmt: skip
    else:
        found = fit_exact(model, world.train, steps=settings.curve_steps, seed=seed, progress=bar)
    return Run(seed, found.model, found.guide, found.seconds)


def _by_elbo(
    cell: Cell, world: World, seeds: Sequence[int], settings: StudySettings, progress: bool
) -> Iterator[Run]:
    started = time.perf_counter()
    made: dict[int, Any] = {}

    def make_model() -> Any:
        model, guide = cell.make(world)
        if cell.warm_start:
            AnchoredWarmStart(settings.warm_steps)(model, guide, Data.of(world.train))
        made[id(model)] = guide
        return model

    found = fit_ensemble(
        make_model, lambda model: made[id(model)], world.train, seeds=tuple(seeds),
        steps=settings.elbo_steps, batch_size=BATCH, learning_rate=LEARNING_RATE,
        progress=f"{cell.key}, {len(seeds)} at once" if progress else False,
    )  # fmt: skip
    seconds = (time.perf_counter() - started) / len(seeds)
    for member in found.members:
        yield Run(member.seed, member.model, member.guide, seconds)
