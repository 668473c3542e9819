"""Run a guide and replay its model, once or for many particles at once.

Particles are vectorised by an outer plate to the left of every plate of the pair. A program that
was not written for that can return numbers that are plainly wrong without an error, so the
vectorised densities of a pair are compared with single runs before they are believed; a pair that
fails is run one particle after another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrolvm.core.data import Data
from pyrolvm.core.errors import SiteError

DATA_PLATE = "data"
PARTICLE_PLATE = "particles"


@dataclass(frozen=True)
class PairTrace:
    """One run of a guide and of its model replayed on it.

    Args:
        model: Trace of the model.
        guide: Trace of the guide.
        particle_dim: Dimension of the particle plate, or None for a single particle.
        num_particles: Number of particles in the trace.
    """

    model: Trace
    guide: Trace
    particle_dim: int | None
    num_particles: int

    def latents(self) -> dict[str, dict[str, Any]]:
        """Latent sites of the model, by name."""
        return {name: site for name, site in _samples(self.model) if not site["is_observed"]}

    def observed(self) -> dict[str, dict[str, Any]]:
        """Observed sites of the model (factors included), by name."""
        return {
            name: site
            for name, site in _samples(self.model)
            if site["is_observed"] and not site["infer"].get("_deterministic")
        }

    def guide_sites(self) -> dict[str, dict[str, Any]]:
        """Every site that the guide sampled, auxiliary ones included, by name."""
        return {name: site for name, site in _samples(self.guide) if not site["is_observed"]}


def _samples(trace: Trace) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not site_is_subsample(site):
            yield name, site


def run_once(model: Callable, guide: Callable, data: Data) -> PairTrace:
    """Run guide and model once, without a particle plate, and check that their sites match.

    Raises:
        SiteError: If a latent site of the model has no guide, or the guide samples a site that the
            model lacks.
    """
    pair = _run(model, guide, data)
    in_model, in_guide = pair.latents(), pair.guide_sites()
    for name in in_model:
        if name not in in_guide:
            raise SiteError(
                f"The model samples the latent site {name!r}, but the guide does not: it samples "
                f"{', '.join(map(repr, in_guide)) or 'nothing'}. Add the site to the guide, or observe it."
            )
    for name, site in in_guide.items():
        if name not in in_model and not site["infer"].get("is_auxiliary"):
            raise SiteError(
                f"The guide samples the site {name!r}, but the model does not: it samples "
                f"{', '.join(map(repr, in_model)) or 'nothing'}. Rename it, or mark it as "
                'auxiliary with infer={"is_auxiliary": True}.'
            )
        if name in in_model and site["value"].shape != in_model[name]["value"].shape:
            raise SiteError(f"The site {name!r} has different shapes in guide and model.")
    if not pair.observed():
        raise SiteError("The model observes nothing: give it an observed site, obs=....")
    return pair


def _run(model: Callable, guide: Callable, data: Data) -> PairTrace:
    guide_trace = poutine.trace(guide).get_trace(*data.args, **data.named)
    replayed = poutine.replay(model, trace=guide_trace)
    model_trace = poutine.trace(replayed).get_trace(*data.args, **data.named)
    return PairTrace(model_trace, guide_trace, None, 1)


def run_vectorised(
    model: Callable, guide: Callable, data: Data, num_particles: int, particle_dim: int
) -> PairTrace:
    """Run guide and model for many particles in one outer plate at ``particle_dim``."""

    def wrapped(program: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            with pyro.plate(PARTICLE_PLATE, num_particles, dim=particle_dim):
                return program(*args, **kwargs)

        return run

    pair = _run(wrapped(model), wrapped(guide), data)
    return PairTrace(pair.model, pair.guide, particle_dim, num_particles)


def free_dim(pair: PairTrace) -> int:
    """Return the first dimension to the left of every plate of the pair."""
    frames = [
        frame
        for trace in (pair.model, pair.guide)
        for _, site in _samples(trace)
        for frame in site["cond_indep_stack"]
    ]
    if any(frame.name == PARTICLE_PLATE for frame in frames):
        raise SiteError(
            f"The plate name {PARTICLE_PLATE!r} is reserved for particles; rename yours."
        )
    return min([frame.dim for frame in frames if frame.dim is not None], default=0) - 1


def data_dim(site: dict[str, Any]) -> int | None:
    """Return the dimension of the ``"data"`` plate around a site, None if it lies outside."""
    for frame in site["cond_indep_stack"]:
        if frame.name == DATA_PLATE and frame.dim is not None:
            return int(frame.dim)
    return None


def log_density(site: dict[str, Any], pair: PairTrace, per_datum: bool) -> Tensor:
    """Log density of one site: masked, scaled, summed over all but particles and data.

    The scale of a subsampled ``"data"`` plate is left out where densities are per datum.

    Returns:
        Shape ``(K, N)`` in nats; ``(K, 1)`` where ``per_datum`` is false.
    """
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    scale = site["scale"]
    plate = next((f for f in site["cond_indep_stack"] if f.name == DATA_PLATE), None)
    if per_datum and plate is not None and plate.full_size is not None:
        scale = scale / (plate.full_size / plate.size)
    log_prob = scale_and_mask(log_prob, scale, site["mask"])
    kept = [pair.particle_dim, plate.dim if per_datum and plate is not None else None]
    return _keep_dims(log_prob, kept)


def _keep_dims(tensor: Tensor, dims: list[int | None]) -> Tensor:
    """Sum a tensor over all but the given dimensions (None: a new one of size 1), and put those first."""
    width = max([tensor.dim(), *[-dim for dim in dims if dim is not None]])
    tensor = tensor.reshape((1,) * (width - tensor.dim()) + tensor.shape)
    kept = [width + dim for dim in dims if dim is not None]
    summed = [dim for dim in range(width) if dim not in kept]
    tensor = tensor.sum(summed, keepdim=True) if summed else tensor
    tensor = tensor.permute([*kept, *summed]).reshape([tensor.shape[dim] for dim in kept])
    for position, dim in enumerate(dims):
        if dim is None:
            tensor = tensor.unsqueeze(position)
    return tensor


def value_of(site: dict[str, Any], pair: PairTrace, per_datum: bool) -> Tensor:
    """Value of a site with particles (and data) first: shape ``(K, N, ...)`` or ``(K, ...)``."""
    event = site["fn"].event_dim
    value = site["value"]
    dims = [pair.particle_dim, data_dim(site) if per_datum else None]
    kept = [dim - event for dim in dims if dim is not None]
    if kept:
        width = max(value.dim(), -min(kept))
        value = value.reshape((1,) * (width - value.dim()) + value.shape)
        value = value.movedim([width + dim for dim in kept], list(range(len(kept))))
    return value if pair.particle_dim is not None else value.unsqueeze(0)


def vectorises(model: Callable, guide: Callable, data: Data, particle_dim: int) -> bool:
    """Whether a particle plate gives this pair the densities that single runs give."""
    try:
        pair = run_vectorised(model, guide, data, 2, particle_dim)
        for particle in range(2):
            alone = _run(model, poutine.replay(guide, trace=_one_particle(pair, particle)), data)
            for together, single in (
                (pair.latents(), alone.latents()),
                (pair.observed(), alone.observed()),
                (pair.guide_sites(), alone.guide_sites()),
            ):
                for name, site in together.items():
                    rows = log_density(site, pair, per_datum=False)
                    if rows.shape[0] != 2:
                        return False
                    one = log_density(single[name], alone, per_datum=False)
                    if not torch.allclose(
                        rows[particle], one[0], rtol=1e-6, atol=1e-6, equal_nan=True
                    ):
                        return False
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AssertionError):
        return False
    return True


def _one_particle(pair: PairTrace, particle: int) -> Trace:
    """A trace of the guide that holds the values of one particle."""
    assert pair.particle_dim is not None
    trace = Trace()
    for name, site in pair.guide_sites().items():
        dim = pair.particle_dim - site["fn"].event_dim
        value = site["value"]
        value = value.select(dim, particle) if value.dim() >= -dim else value
        trace.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    return trace


def warn_sequential() -> None:
    """Say that a pair could not be vectorised over particles."""
    warnings.warn(
        "This model and guide give other densities under a particle plate than alone (their code fixes "
        "batch shapes), so particles are run one after another, which is slower.",
        stacklevel=4,
    )


def log_density_at(
    program: Callable, data: Data, values: dict[str, Tensor], particle_dim: int
) -> dict[str, Tensor]:
    """Log density of every site of a program at given values of its latent sites.

    Args:
        program: A model or a guide that vectorises over particles, every site in the data plate at dim −1.
        data: What the program takes.
        values: By latent site, shape ``(K, N, ...)``.
        particle_dim: Dimension of the particle plate.

    Returns:
        By site, shape ``(K, N)`` in nats.
    """
    given = Trace()
    for name, value in values.items():
        given.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    num_particles = len(next(iter(values.values())))
    with pyro.plate(PARTICLE_PLATE, num_particles, dim=particle_dim):
        trace = poutine.trace(poutine.replay(program, trace=given)).get_trace(
            *data.args, **data.named
        )
    pair = PairTrace(trace, trace, particle_dim, num_particles)
    return {name: log_density(site, pair, per_datum=True) for name, site in _samples(trace)}
