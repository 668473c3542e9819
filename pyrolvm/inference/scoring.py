"""Score a guide on data: its log weights, what they say of it, and what a posterior costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyrolvm.core import (
    Data,
    Guide,
    LogDensities,
    evaluating,
    log_densities,
    own_parameters,
)
from pyrolvm.core.copying import copied
from pyrolvm.core.matching import run_once
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.summed_out import is_marked
from pyrolvm.core.tracing import PARTICLE_PLATE, free_dim
from pyrolvm.diagnostics import effective_sample_size, elbo, pareto_khat
from pyrolvm.objectives import refuse_tempered

TIMED_DRAWS = 100


@dataclass(frozen=True)
class GuideScore:
    """What K draws of a guide say about it, per datum.

    Args:
        densities: Log densities of every site, and the draws that were kept.
        elbo: Nats, shape ``(N,)``.
        khat: Pareto shape of the weights' tail, ``(N,)``; −inf where the weights are constant.
        ess: Effective number of draws, ``(N,)``.
        ms_per_datum: Wall time of a datum's posterior, 100 draws of it, in milliseconds.
    """

    densities: LogDensities
    elbo: Tensor
    khat: Tensor
    ess: Tensor
    ms_per_datum: float

    @property
    def log_weights(self) -> Tensor:
        """Log p(x, z) − log q(z | x), shape ``(K, N)``."""
        return self.densities.log_weights


def score(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    num_particles: int = 1000,
    seed: int = 0,
    keep_values: bool | int = True,
) -> GuideScore:
    """Draw particles from a guide and measure it, in double precision.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: What both take, rows first.
        num_particles: Draws K for each datum.
        seed: The same seed gives the same scores.
        keep_values: As in :func:`pyrolvm.log_densities`.

    Returns:
        The score; with a latent site outside the data plate the whole data set is one datum.

    Raises:
        SettingError: If a latent site is scaled, as weights of rates do.
    """
    rows = Data.of(data)
    with own_randomness(seed):
        seconds = seconds_of_draws(model, guide, rows)
    with own_randomness(seed):
        densities = log_densities(
            model, guide, rows, num_particles=num_particles, keep_values=keep_values
        )
    weights = densities.log_weights
    return GuideScore(
        densities=densities,
        elbo=elbo(weights),
        khat=pareto_khat(weights),
        ess=effective_sample_size(weights),
        ms_per_datum=1000 * seconds / rows.num_rows,
    )


def seconds_of_draws(model: Callable[..., Any], guide: Callable[..., Any], rows: Data) -> float:
    """Wall time in which a guide draws 100 particles for all rows, once it is warm."""
    chunks = [rows]
    if isinstance(guide, Guide):
        starts = range(0, rows.num_rows, 1024)
        chunks = [rows.rows(slice(start, start + 1024)) for start in starts]
    with evaluating(model, guide):
        chunks = [chunk.to(dtype=torch.float64) for chunk in chunks]
        warm = chunks[0].rows(slice(0, 2)) if isinstance(guide, Guide) else chunks[0]
        first = run_once(model, guide, warm, is_marked)
        refuse_tempered(first)
        dim = free_dim(first)
        _finish_kernels(rows.device)
        start = time.perf_counter()
        for chunk in chunks:
            _draw(guide, chunk, dim)
        _finish_kernels(rows.device)
        return time.perf_counter() - start


def _finish_kernels(device: torch.device) -> None:
    """Wait for what a GPU still computes, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _draw(guide: Callable[..., Any], rows: Data, particle_dim: int) -> None:
    try:
        with pyro.plate(PARTICLE_PLATE, TIMED_DRAWS, dim=particle_dim):
            rows.call(guide)
    except (RuntimeError, ValueError):  # its batch shapes are fixed: one draw after another
        for _ in range(TIMED_DRAWS):
            rows.call(guide)


def num_parameters(guide: Callable[..., Any], data: Any) -> int:
    """Number of trainable numbers of a guide, in its module or in Pyro's parameter store."""
    if isinstance(guide, Guide):
        return sum(parameter.numel() for parameter in guide.parameters())
    rows = Data.of(data)
    if isinstance(guide, nn.Module):
        (twin,) = copied(guide)  # Pyro's autoguides make their parameters in the first run
        with evaluating(twin), own_randomness():
            rows.to(dtype=torch.float64).call(twin)
        return sum(parameter.numel() for parameter in twin.parameters())
    with own_parameters(guide, dtype=torch.get_default_dtype()), own_randomness():
        trace = poutine.trace(guide, param_only=True).get_trace(*rows.args, **rows.named)
    sites = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "param"}
    return sum(value.numel() for value in sites.values() if isinstance(value, Tensor))
