"""Run a guide and replay its model, once or for many particles at once.

Particles are vectorised by an outer plate to the left of every plate of the pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrolvm.core.data import Arguments
from pyrolvm.core.errors import SiteError
from pyrolvm.core.sites import data_dim, log_density
from pyrolvm.core.summed_out import Enumeration, Terms, marginal_terms

PARTICLE_PLATE = "particles"


@dataclass(frozen=True)
class PairTrace:
    """One run of a guide and of its model replayed on it.

    Args:
        model: Trace of the model.
        guide: Trace of the guide.
        particle_dim: Dimension of the particle plate, or None for a single particle.
        enumeration: Of the discrete sites that are summed out of the model, if there are any.
    """

    model: Trace
    guide: Trace
    particle_dim: int | None = None
    enumeration: Enumeration | None = None

    def latents(self) -> dict[str, dict[str, Any]]:
        """Latent sites of the model that have values, by name."""
        hidden = self._hidden()
        return {name: site for name, site in hidden.items() if name not in self._summed_names()}

    def summed(self) -> dict[str, dict[str, Any]]:
        """Latent sites of the model that are summed out, by name."""
        hidden = self._hidden()
        return {name: site for name, site in hidden.items() if name in self._summed_names()}

    def _hidden(self) -> dict[str, dict[str, Any]]:
        return {name: site for name, site in _samples(self.model) if not site["is_observed"]}

    def _summed_names(self) -> frozenset[str]:
        return frozenset() if self.enumeration is None else self.enumeration.names

    def observed(self) -> dict[str, dict[str, Any]]:
        """Observed sites of the model (factors included), by name."""
        return {name: site for name, site in _samples(self.model) if _has_likelihood(site)}

    def model_terms(self, per_datum: bool) -> Terms:
        """Log densities of the model's sites, discrete ones summed out.

        Args:
            per_datum: Whether every site of the pair lies in the data plate.
        """
        latents, observed = self.latents(), self.observed()
        if self.enumeration is not None:
            return marginal_terms(self.model, latents, observed, self.particle_dim, per_datum)
        return Terms(
            *(
                {n: log_density(site, self.particle_dim, per_datum) for n, site in found.items()}
                for found in (latents, observed)
            )
        )

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

    def outside_data_plate(self) -> tuple[str, ...]:
        """Names of the sites outside the plate ``"data"``, latent ones first."""
        outside = (name for name, site in self.all_sites() if data_dim(site) is None)
        return tuple(dict.fromkeys(outside))

    def all_sites(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every site that has a density: latent ones first, observed ones last."""
        for sites in (self.latents(), self.summed(), self.guide_sites(), self.observed()):
            yield from sites.items()


def _has_likelihood(site: dict[str, Any]) -> bool:
    return site["is_observed"] and not site["infer"].get("_deterministic")


def is_latent(site: Mapping[str, Any]) -> bool:
    """Whether a site of a trace is a latent variable."""
    message: Any = site
    is_sample = site["type"] == "sample" and not site_is_subsample(message)
    return bool(is_sample and not site["is_observed"])


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
        like: An earlier run, whose subsampled rows and enumeration are used again.
    """
    rows = Trace() if like is None else subsamples(like)
    guide_trace = poutine.trace(poutine.replay(guide, trace=rows)).get_trace(
        *data.args, **data.named
    )
    enumeration = None if like is None else like.enumeration
    return PairTrace(
        replayed(model, guide_trace, rows, data, enumeration), guide_trace, enumeration=enumeration
    )


def replayed(
    model: Callable,
    guide_trace: Trace,
    rows: Trace,
    data: Arguments,
    enumeration: Enumeration | None = None,
) -> Trace:
    """Run a model at the values of a guide's run.

    Args:
        model: A Pyro program.
        guide_trace: Of the guide.
        rows: The rows that plates chose (:func:`subsamples`).
        data: What the model takes.
        enumeration: Of the sites that take all their values at once.
    """
    given = _holding(_nodes(rows))
    for name, site in guide_trace.nodes.items():
        if site["type"] == "sample" and not site["is_observed"] and name not in given.nodes:
            given.add_node(name, **site)
    program = model if enumeration is None else enumeration.over(model)
    return poutine.trace(poutine.replay(program, trace=given)).get_trace(*data.args, **data.named)


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
    many = in_particles(model, num_particles, particle_dim)
    pair = run_pair(many, in_particles(guide, num_particles, particle_dim), data, like)
    return replace(pair, particle_dim=particle_dim)


def in_particles(program: Callable, num_particles: int, particle_dim: int | None) -> Callable:
    """Put a program into the plate of particles; return it as it is where there is none."""
    if particle_dim is None:
        return program

    def run(*args: Any, **kwargs: Any) -> Any:
        with pyro.plate(PARTICLE_PLATE, num_particles, dim=particle_dim):
            return program(*args, **kwargs)

    return run


class Unconditioned(UnconditionMessenger):
    """Draws observed sites anew; what ``pyro.deterministic`` computes from others stays so."""

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["infer"].get("_deterministic"):
            super()._pyro_sample(msg)


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
