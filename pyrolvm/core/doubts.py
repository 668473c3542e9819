"""What makes the densities of a pair doubtful although it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor

from pyrolvm.core import tracing
from pyrolvm.core.data import Data
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.matching import run_once
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.sites import log_density
from pyrolvm.core.summed_out import is_marked
from pyrolvm.core.tracing import PairTrace


@dataclass(frozen=True)
class Doubt:
    """One reason to distrust figures of a pair.

    Args:
        site: Name of the site.
        sentence: What is the matter, and what follows.
    """

    site: str
    sentence: str


def doubts_about(
    model: Callable[..., Any], guide: Callable[..., Any], data: Any
) -> tuple[Doubt, ...]:
    """Look for random densities, and for latents that nothing depends on.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: What both take.
    """
    with evaluating(model, guide), own_randomness():
        rows = Data.of(data).to(dtype=torch.float64)
        pair = run_once(model, guide, rows, is_marked)
        other = tracing.run_pair(model, guide, rows, pair)

        def densities(drawn: Trace, seed: int) -> dict[str, Tensor]:
            with own_randomness(seed):
                trace = tracing.replayed(
                    model, drawn, tracing.subsamples(pair), rows, pair.enumeration
                )
            found = PairTrace(trace, Trace()).all_sites()
            return {name: log_density(site, None, per_datum=False) for name, site in found}

        first, again = densities(pair.guide, 0), densities(pair.guide, 1)
        random = [Doubt(name, _random(name)) for name in _changed(first, again)]
        unused = [
            Doubt(name, _unused(name))
            for name in pair.latents()
            if not _changed(first, densities(_with(pair.guide, other.guide, name), 0)) - {name}
        ]
        return (*random, *unused)


def _changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {n for n, value in one.items() if not torch.equal(value, other[n])}


def _with(trace: Trace, other: Trace, name: str) -> Trace:
    """Return a run with the value that one site has in another run."""
    changed = trace.copy()
    changed.nodes[name] = {**trace.nodes[name], "value": other.nodes[name]["value"]}  # type: ignore
    return changed


def _random(name: str) -> str:
    return (
        f"The density at site {name!r} differs between two runs at the same latents: the program "
        "draws random numbers outside pyro.sample. Log weights and all that rests on them carry "
        "this noise; make the density a fixed function of the latents."
    )


def _unused(name: str) -> str:
    return (
        f"No other site depends on the latent site {name!r}: its posterior, as this program "
        "states it, is its prior, and the guide is judged against that. (Pyro's variational "
        "Gaussian processes are of this kind: their likelihood reads the guide's parameters.)"
    )
