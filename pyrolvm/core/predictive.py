"""Draws of what a model predicts: from its prior, and from the posterior as a guide has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Unit
from torch import Tensor

from pyrolvm.core import sites, tracing
from pyrolvm.core.data import Data
from pyrolvm.core.discrete_draws import with_discrete_draws
from pyrolvm.core.errors import SiteError
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.matching import run_once
from pyrolvm.core.model import Model
from pyrolvm.core.summed_out import is_marked
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

    Discrete sites that the guide leaves to be summed out are drawn given the latents and the data.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: A tensor, or a mapping from argument name to tensor.
        num_draws: Number of draws K for each datum.

    Returns:
        Draws with leading shape ``(K, N)``.

    Raises:
        SiteError: If the model does not draw its observed sites anew as they were observed.
    """
    with evaluating(model, guide):
        rows = Data.of(data).to(dtype=torch.float64)
        alone = run_once(model, guide, rows, is_marked)
        dim = particle_dim(model, guide, rows, alone)
        hidden = {**alone.latents(), **alone.summed()}
        per_datum = all(sites.data_dim(site) is not None for site in hidden.values())
        observed = [name for name, site in alone.observed().items() if not _is_factor(site)]
        runs = []
        for pair in tracing.run_particles(model, guide, rows, [num_draws], alone, dim):
            free = _drawn_anew(model, rows, pair, 1 if dim is None else num_draws)
            _check_draws(pair, free, observed)
            runs.append(_draws(free, list(alone.latents()), observed, per_datum))
        return Draws(*(_stacked([getattr(run, f) for run in runs]) for f in _FIELDS))


def _drawn_anew(
    model: Callable[..., Any], rows: Data, pair: PairTrace, num_particles: int
) -> PairTrace:
    """Run a model at the latents of a pair, and draw its observations anew."""
    given, same_rows = with_discrete_draws(pair), tracing.subsamples(pair)
    free = tracing.in_particles(tracing.Unconditioned()(model), num_particles, pair.particle_dim)
    try:
        trace = tracing.replayed(free, given, same_rows, rows)
    except (RuntimeError, ValueError, IndexError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SiteError(
            f"Predictions draw the observed sites {', '.join(map(repr, pair.observed()))} anew, "
            f"which this model does not do: {reason.rstrip('.')}."
        ) from error
    return replace(pair, model=trace, enumeration=None)


def _check_draws(pair: PairTrace, free: PairTrace, observed: list[str]) -> None:
    """Refuse an observed site whose draws look different from what was observed."""
    for name in observed:
        seen, drawn = (dict[str, Any](each.model.nodes)[name] for each in (pair, free))
        event = seen["fn"].event_dim
        shapes = [
            tuple(node["value"].shape[node["value"].dim() - event :]) for node in (seen, drawn)
        ]
        if shapes[0] != shapes[1]:
            raise SiteError(
                f"Predictions draw the observed site {name!r} anew, but draws have event shape "
                f"{shapes[1]} where the data have {shapes[0]}."
            )


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
