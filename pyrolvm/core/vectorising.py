"""Can a pair be run for many particles at once?

A program that was not written for that can return numbers that are plainly wrong without an error,
so the vectorised densities of a pair are compared with single runs before they are believed. A
pair that fails is run one particle after another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from pyrolvm.core.data import Arguments
from pyrolvm.core.guide import keep_the_contract
from pyrolvm.core.sites import delta_within, log_density
from pyrolvm.core.tracing import Holding, PairTrace, free_dim, run_pair, run_vectorised


def particle_dim(
    model: Callable, guide: Callable, rows: Arguments, alone: PairTrace
) -> int | None:
    """Return the dimension for a particle plate; None, with a warning, where it does not do.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        rows: What both take.
        alone: A single run of them.
    """
    dim = free_dim(alone)
    if keep_the_contract(model, guide) or vectorises(model, guide, rows, dim, alone):
        return dim
    warn_sequential()
    return None


def vectorises(
    model: Callable,
    guide: Callable,
    data: Arguments,
    particle_dim: int,
    like: PairTrace | None = None,
) -> bool:
    """Whether a particle plate gives this pair the densities that single runs give."""
    try:
        pair = run_vectorised(model, guide, data, 2, particle_dim, like)
        return all(
            _agrees(pair, run_pair(model, _held_at(guide, pair, particle), data, pair), particle)
            for particle in range(2)
        )
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AssertionError):
        return False


def _agrees(pair: PairTrace, alone: PairTrace, particle: int) -> bool:
    """Whether one of two particles has the densities of a single run at the same values."""
    for (name, site), (other, single) in zip(pair.all_sites(), alone.all_sites(), strict=True):
        together = log_density(site, pair.particle_dim, per_datum=False)
        one = log_density(single, None, per_datum=False)
        if name != other or together.shape[0] != 2:
            return False
        if not torch.allclose(together[particle], one[0], rtol=1e-6, atol=1e-6, equal_nan=True):
            return False
    return True


def _held_at(guide: Callable, pair: PairTrace, particle: int) -> Callable:
    """Fix a guide at the values of one particle; what follows from them is computed anew."""
    assert pair.particle_dim is not None
    values = {}
    for name, site in pair.guide_sites().items():
        dim = pair.particle_dim - site["fn"].event_dim
        if not site["is_observed"] and delta_within(site["fn"]) is None:
            value = site["value"]
            values[name] = value.select(dim, particle) if value.dim() >= -dim else value
    return Holding(values)(guide)


def warn_sequential() -> None:
    """Say that a pair could not be vectorised over particles."""
    warnings.warn(
        "This model and guide give other densities under a particle plate than alone (their code "
        "fixes batch shapes), so particles are run one after another, which is slower.",
        stacklevel=5,
    )
