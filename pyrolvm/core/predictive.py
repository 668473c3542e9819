"""Draws of what a model predicts: from its prior, and from the posterior as a guide has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Unit
from torch import Tensor

from pyrolvm.core import sites, tracing
from pyrolvm.core.data import Data
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.matching import run_once
from pyrolvm.core.model import Model
from pyrolvm.core.tracing import PairTrace
from pyrolvm.core.vectorising import particle_dim

_FIELDS = ("latents", "observations", "means")


@dataclass(frozen=True)
class Draws:
    """Draws of latent and observed sites, and the mean of the observed ones given the latents.

    Args:
        latents: By site; posterior draws have shape ``(K, N, ...)``, prior draws ``(M, ...)``.
        observations: By site, drawn anew, same leading shape.
        means: By site, where the observation's distribution knows its mean; same shape.
    """

    latents: dict[str, Tensor]
    observations: dict[str, Tensor]
    means: dict[str, Tensor]


def predictive(
    model: Callable[..., Any], guide: Callable[..., Any], data: Any, num_draws: int
) -> Draws:
    """Draw latents from a guide and new observations from the model, for each datum.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: A tensor, or a mapping from argument name to tensor.
        num_draws: Number of draws K for each datum.

    Returns:
        Draws with leading shape ``(K, N)``.
    """
    with evaluating(model, guide):
        rows = Data.of(data).to(dtype=torch.float64)
        alone = run_once(model, guide, rows)
        dim = particle_dim(model, guide, rows, alone)
        per_datum = all(sites.data_dim(site) is not None for site in alone.latents().values())
        observed = [name for name, site in alone.observed().items() if not _is_factor(site)]
        free = poutine.uncondition(model)
        runs = [
            _draws(pair, list(alone.latents()), observed, per_datum)
            for pair in tracing.run_particles(free, guide, rows, [num_draws], alone, dim)
        ]
        return Draws(*(_stacked([getattr(run, f) for run in runs]) for f in _FIELDS))


def _draws(pair: PairTrace, latents: list[str], observed: list[str], per_datum: bool) -> Draws:
    nodes: dict[str, Any] = dict(pair.model.nodes)

    def values(found: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: sites.value_of({**nodes[name], "value": value}, pair.particle_dim, per_datum)
            for name, value in found.items()
        }

    means = {name: _mean(nodes[name]["fn"]) for name in observed}
    return Draws(
        values({name: nodes[name]["value"] for name in latents}),
        values({name: nodes[name]["value"] for name in observed}),
        values({name: mean for name, mean in means.items() if mean is not None}),
    )


def _stacked(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _is_factor(site: dict[str, Any]) -> bool:
    """Whether a site only adds to the log density (``pyro.factor``) and observes nothing."""
    return isinstance(site["fn"], Unit) or isinstance(getattr(site["fn"], "base_dist", None), Unit)


def prior_predictive(model: Model, num_draws: int, data: Any = None) -> Draws:
    """Draw latents and observations from a model of PyroLVM.

    Args:
        model: The model.
        num_draws: Number of draws M.
        data: Rows from which the covariates of each draw are taken at random, for a model that has
            covariates.

    Returns:
        Draws with leading shape ``(M,)``.
    """
    with evaluating(model):
        covariates = {} if data is None else _drawn_covariates(model, num_draws, Data.of(data))
        trace = poutine.trace(model).get_trace(size=num_draws, **covariates)
        nodes: dict[str, Any] = dict(trace.nodes)
        inside = [
            name
            for name, site in nodes.items()
            if site["type"] == "sample" and sites.data_dim(site) is not None
        ]
        observed = [name for name in inside if name not in model.latent_sites]
        drawn = _draws(PairTrace(trace, trace), list(model.latent_sites), observed, True)
        return Draws(*({n: value[0] for n, value in getattr(drawn, f).items()} for f in _FIELDS))


def _drawn_covariates(model: Model, number: int, rows: Data) -> dict[str, Tensor]:
    if not model.covariates:
        return {}
    index = torch.randint(rows.num_rows, (number,)).to(rows.device)
    given = dict(rows.rows(index).to(dtype=torch.float64).items())
    return {name: given[name] for name in model.covariates}


def _mean(distribution: Any) -> Tensor | None:
    try:
        return distribution.mean
    except NotImplementedError:
        return None
