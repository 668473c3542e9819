"""Draws of what a model predicts: from its prior, and from the posterior that a guide stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyrolvm.core import tracing
from pyrolvm.core.data import Data
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.model import Model


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
        model: A Pyro program that vectorises over particles, with every site in the plate
            ``"data"``.
        guide: A Pyro program with the same arguments.
        data: A tensor, or a mapping from argument name to tensor.
        num_draws: Number of draws K for each datum.

    Returns:
        Draws with leading shape ``(K, N)``.
    """
    with evaluating(model, guide):
        rows = Data.of(data).to(dtype=torch.float64)
        alone = tracing.run_once(model, guide, rows)
        dim = tracing.free_dim(alone)
        pair = tracing.run_vectorised(poutine.uncondition(model), guide, rows, num_draws, dim)
        observed = [name for name in alone.observed() if name in pair.model.nodes]
        per_datum = all(tracing.data_dim(site) is not None for site in alone.latents().values())
        sites = {name: pair.model.nodes[name] for name in (*alone.latents(), *observed)}
        values = {name: tracing.value_of(site, pair, per_datum) for name, site in sites.items()}
        means = {}
        for name in observed:
            mean = _mean(sites[name]["fn"])
            if mean is not None:
                means[name] = tracing.value_of({**sites[name], "value": mean}, pair, per_datum)
        return Draws(
            latents={name: values[name] for name in alone.latents()},
            observations={name: values[name] for name in observed},
            means=means,
        )


def prior_predictive(model: Model, num_draws: int) -> Draws:
    """Draw latents and observations from a model of PyroLVM.

    Args:
        model: The model.
        num_draws: Number of draws M.

    Returns:
        Draws with leading shape ``(M,)``.
    """
    with evaluating(model):
        trace = poutine.trace(model).get_trace(size=num_draws)
        sites = {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and "fn" in s}
        latents = {name: sites[name]["value"] for name in model.latent_sites}
        observed = [
            name
            for name in sites
            if name not in latents and tracing.data_dim(sites[name]) is not None
        ]
        found = {name: _mean(sites[name]["fn"]) for name in observed}
        return Draws(
            latents,
            {name: sites[name]["value"] for name in observed},
            {name: mean for name, mean in found.items() if mean is not None},
        )


def _mean(distribution: Any) -> Tensor | None:
    try:
        return distribution.mean
    except NotImplementedError:
        return None
