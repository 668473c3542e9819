"""Run a guide and replay its model, once or for many particles at once.

Particles are vectorised by an outer plate to the left of every plate of the pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrolvm.core.data import Arguments
from pyrolvm.core.errors import SiteError
from pyrolvm.core.sites import log_density

PARTICLE_PLATE = "particles"


@dataclass(frozen=True)
class PairTrace:
    """One run of a guide and of its model replayed on it.

    Args:
        model: Trace of the model.
        guide: Trace of the guide.
        particle_dim: Dimension of the particle plate, or None for a single particle.
    """

    model: Trace
    guide: Trace
    particle_dim: int | None = None

    def latents(self) -> dict[str, dict[str, Any]]:
        """Latent sites of the model, by name."""
        return {name: site for name, site in _samples(self.model) if not site["is_observed"]}

    def observed(self) -> dict[str, dict[str, Any]]:
        """Observed sites of the model (factors included), by name."""
        return {name: site for name, site in _samples(self.model) if _has_likelihood(site)}

    def guide_sites(self) -> dict[str, dict[str, Any]]:
        """Every site that counts in log q: sampled ones, auxiliary ones, factors of the guide.

        A guide that runs the model inside (Pyro's messengers) holds observed sites of the model
        too; those count once, as likelihood.
        """
        return {
            name: site
            for name, site in _samples(self.guide)
            if not site["is_observed"] or (_has_likelihood(site) and name not in self.model.nodes)
        }

    def all_sites(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every site that has a density, those of the model first."""
        for sites in (self.latents(), self.observed(), self.guide_sites()):
            yield from sites.items()


def _has_likelihood(site: dict[str, Any]) -> bool:
    return site["is_observed"] and not site["infer"].get("_deterministic")


def _samples(trace: Trace) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, site in _nodes(trace).items():
        if site["type"] == "sample" and not site_is_subsample(site):
            yield name, site


def run_pair(
    model: Callable, guide: Callable, data: Arguments, like: PairTrace | None = None
) -> PairTrace:
    """Run a guide and replay its model.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        data: What both take.
        like: An earlier run, whose subsampled rows are used again.
    """
    rows = Trace() if like is None else subsamples(like)
    guide_trace = poutine.trace(poutine.replay(guide, trace=rows)).get_trace(
        *data.args, **data.named
    )
    given = _holding(_nodes(rows))
    for name, site in guide_trace.nodes.items():
        if site["type"] == "sample" and not site["is_observed"] and name not in given.nodes:
            given.add_node(name, **site)
    model_trace = poutine.trace(poutine.replay(model, trace=given)).get_trace(
        *data.args, **data.named
    )
    return PairTrace(model_trace, guide_trace)


def _nodes(trace: Trace) -> dict[str, Any]:
    return dict(trace.nodes)


def subsamples(pair: PairTrace) -> Trace:
    """Return the rows that the plates of a run chose, as a trace to replay."""
    return _holding(
        {
            name: site
            for trace in (pair.model, pair.guide)
            for name, site in _nodes(trace).items()
            if site["type"] == "sample" and site_is_subsample(site)
        }
    )


def _holding(sites: dict[str, dict[str, Any]]) -> Trace:
    trace = Trace()
    for name, site in sites.items():
        trace.add_node(name, **site)
    return trace


def run_vectorised(
    model: Callable,
    guide: Callable,
    data: Arguments,
    num_particles: int,
    particle_dim: int,
    like: PairTrace | None = None,
) -> PairTrace:
    """Run guide and model for many particles in one outer plate at ``particle_dim``."""

    def wrapped(program: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            with pyro.plate(PARTICLE_PLATE, num_particles, dim=particle_dim):
                return program(*args, **kwargs)

        return run

    pair = run_pair(wrapped(model), wrapped(guide), data, like)
    return PairTrace(pair.model, pair.guide, particle_dim)


def run_particles(
    model: Callable,
    guide: Callable,
    data: Arguments,
    sizes: list[int],
    alone: PairTrace,
    dim: int | None,
) -> Iterator[PairTrace]:
    """Run particles in chunks of the given sizes, on the same rows as a single run.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        data: What both take.
        sizes: Number of particles of each chunk.
        alone: The single run.
        dim: Dimension for the particle plate; None runs one particle after another.
    """
    for size in sizes:
        if dim is not None:
            yield run_vectorised(model, guide, data, size, dim, alone)
        else:
            for _ in range(size):
                yield run_pair(model, guide, data, alone)


def free_dim(pair: PairTrace) -> int:
    """Return the first dimension to the left of every plate of the pair."""
    frames = [frame for _, site in pair.all_sites() for frame in site["cond_indep_stack"]]
    if any(frame.name == PARTICLE_PLATE for frame in frames):
        raise SiteError(
            f"The plate name {PARTICLE_PLATE!r} is kept for particles, but the model or the guide "
            "has a plate of that name. Rename it."
        )
    return min([frame.dim for frame in frames if frame.dim is not None], default=0) - 1


class Holding(Messenger):
    """Fixes latent sites at given values, and leaves everything else about them as it is."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def log_density_at(
    program: Callable, data: Arguments, values: dict[str, Tensor], particle_dim: int
) -> dict[str, Tensor]:
    """Log density of every site of a program at given values of its latent sites.

    Args:
        program: A model or a guide that vectorises over particles, every site in the data plate at
            dim −1.
        data: What the program takes.
        values: By latent site, shape ``(K, N, ...)``.
        particle_dim: Dimension of the particle plate.

    Returns:
        By site, shape ``(K, N)`` in nats.
    """
    num_particles = len(next(iter(values.values())))
    with pyro.plate(PARTICLE_PLATE, num_particles, dim=particle_dim):
        trace = poutine.trace(Holding(values)(program)).get_trace(*data.args, **data.named)
    return {
        name: log_density(site, particle_dim, per_datum=True) for name, site in _samples(trace)
    }


def log_joint_at(model: Callable, data: Arguments, values: dict[str, Tensor]) -> Tensor:
    """Log p(x, z) at given values of the latent sites of a model with all sites in the plate.

    Args:
        model: As in :func:`log_density_at`.
        data: What the model takes.
        values: By latent site, shape ``(K, N, ...)``.

    Returns:
        Nats, shape ``(K, N)``.
    """
    densities = log_density_at(model, data, values, -2).values()
    return torch.stack(torch.broadcast_tensors(*densities)).sum(0)
