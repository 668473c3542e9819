r"""The latent sites of a program as one unconstrained vector for each datum.

.. math:: \log \tilde p(x, u) = \log p(x, T(u)) + \log |\det T'(u)|, \qquad u \in \mathbb{R}^S

T maps each site's part of u onto the support of its distribution. What needs gradients or a flat
vector (annealing, Markov chains, Gaussian fits, distances between draws) works here, for any Pyro
program: sites inside the ``"data"`` plate give every datum a vector of its own; with a site
outside it the data set is one datum, N is 1, and the vector holds all latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.utils import _sum_rightmost

from pyrolvm.core import sites
from pyrolvm.core.data import Data
from pyrolvm.core.errors import SiteError
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.matching import run_once
from pyrolvm.core.model import Model
from pyrolvm.core.tracing import PARTICLE_PLATE, Holding, PairTrace, free_dim, subsamples
from pyrolvm.core.vectorising import vectorises

Points = Float[Tensor, "particle data S"]
"""Unconstrained vectors, shape ``(K, N, S)``."""


@dataclass(frozen=True)
class LatentSite:
    """Where one latent site stands in the vector.

    Args:
        name: Of the site.
        columns: Its columns of the vector.
        plates: Dimension and size of each batch dimension but those of particles and data, from
            the left.
        data_dim: Dimension of the plate ``"data"``; None outside it.
        event: Unconstrained event shape.
        support_event: Event shape of the site's values.
    """

    name: str
    columns: slice
    plates: tuple[tuple[int, int], ...]
    data_dim: int | None
    event: tuple[int, ...]
    support_event: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Unconstrained shape of one datum's part."""
        return (*(size for _, size in self.plates), *self.event)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """``z[0]``, ``z[1]``, …; the bare name where there is one number only."""
        size = math.prod(self.shape)
        if size == 1:
            return (self.name,)
        index = (torch.unravel_index(torch.tensor(i), self.shape) for i in range(size))
        return tuple(f"{self.name}[{','.join(str(int(k)) for k in each)}]" for each in index)

    def in_trace(self, values: Tensor, event: tuple[int, ...], particle_dim: int | None) -> Tensor:
        """Arrange values ``(K, N, plates…, event…)`` as the site has them in a trace."""
        if particle_dim is None:
            values = values[0]
        if self.data_dim is None:
            values = values.squeeze(0 if particle_dim is None else 1)
        firsts = [dim for dim in (particle_dim, self.data_dim) if dim is not None]
        dims = [*firsts, *(dim for dim, _ in self.plates)]
        order = sorted(range(len(dims)), key=lambda axis: dims[axis])
        rest = range(len(dims), len(dims) + len(event))
        sizes = {dims[axis]: values.shape[axis] for axis in order}
        width = max((-dim for dim in dims), default=0)
        batch = [sizes.get(dim, 1) for dim in range(-width, 0)]
        return values.permute([*order, *rest]).reshape(*batch, *event)


class LatentSpace:
    """Log densities of a model at unconstrained points; made by :func:`latent_space`.

    Args:
        model: A Pyro program in double precision.
        data: What it observes.
        alone: A single run of it.
        particle_dim: Dimension of a particle plate; None runs one particle after another.
    """

    def __init__(
        self, model: Callable[..., Any], data: Data, alone: PairTrace, particle_dim: int | None
    ) -> None:
        self.model, self.data = model, data
        self._particle_dim, self._rows = particle_dim, subsamples(alone)
        latents = alone.latents()
        self.global_sites = tuple(
            dict.fromkeys(n for n, site in alone.all_sites() if sites.data_dim(site) is None)
        )
        self.sites = _located(latents, self.factorises)
        self.num_data = data.num_rows if self.factorises else 1

    @property
    def factorises(self) -> bool:
        """Whether each datum has a posterior of its own."""
        return not self.global_sites

    @property
    def dim(self) -> int:
        """Number S of unconstrained coordinates of one datum."""
        return self.sites[-1].columns.stop if self.sites else 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the S coordinates."""
        return tuple(name for site in self.sites for name in site.coordinate_names)

    def log_joint(self, points: Points) -> Float[Tensor, "particle data"]:
        """Log p(x, T(u)) + log |det T'(u)| in nats, shape ``(K, N)``; differentiable in u."""
        log_prior, log_likelihood = self.log_terms(points)
        return log_prior + log_likelihood

    def log_terms(
        self, points: Points
    ) -> tuple[Float[Tensor, "particle data"], Float[Tensor, "particle data"]]:
        """Log density of the prior of u, and log p(x | u), shape ``(K, N)`` each, in nats.

        Args:
            points: Shape ``(K, N, S)``.
        """
        parts = [self._terms(part) for part in self._runs(points)]
        prior, likelihood = (torch.cat(each) for each in zip(*parts, strict=True))
        return prior, likelihood

    def gradient(self, points: Points) -> tuple[Float[Tensor, "particle data"], Points]:
        """Log joint density, shape ``(K, N)``, and its gradient in u, shape ``(K, N, S)``."""
        with torch.enable_grad():
            at = points.detach().requires_grad_()
            value = self.log_joint(at)
            (slope,) = torch.autograd.grad(value.sum(), at)
        return value.detach(), slope

    def to_values(self, points: Points) -> dict[str, Tensor]:
        """Values of the sites at unconstrained points, ``(K, N, ...)``, or ``(K, ...)``."""
        parts = []
        for part in self._runs(points):
            trace = self._run(_Constraining(self._held(part)), len(part))
            parts.append({site.name: self._value(trace.nodes[site.name]) for site in self.sites})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def to_points(self, values: Mapping[str, Tensor]) -> Points:
        """Unconstrained points of draws.

        Args:
            values: By latent site, shape ``(K, N, ...)``, or ``(K, ...)`` for one data set, as
                :func:`~pyrolvm.core.log_densities.log_densities` keeps them.

        Returns:
            Shape ``(K, N, S)``.
        """
        num_particles = len(next(iter(values.values())))
        step = num_particles if self._particle_dim is not None else 1
        parts = []
        for start in range(0, num_particles, step):
            held = {
                site.name: site.in_trace(
                    self._with_data(values[site.name][start : start + step]),
                    site.support_event, self._particle_dim,
                )
                for site in self.sites
            }  # fmt: skip
            trace = self._run(Holding(held), min(step, num_particles))
            parts.append(self._flattened(_freed(trace, self.sites)))
        return torch.cat(parts)

    def prior_points(self, num_particles: int) -> Points:
        """Draws of the prior, as unconstrained points, shape ``(K, N, S)``."""
        step = num_particles if self._particle_dim is not None else 1
        parts = []
        for _ in range(0, num_particles, step):
            trace = self._run(Holding({}), step)
            parts.append(self._flattened(_freed(trace, self.sites)))
        return torch.cat(parts)

    def _with_data(self, values: Tensor) -> Tensor:
        return values if self.factorises else values.unsqueeze(1)

    def _runs(self, points: Points) -> Iterator[Points]:
        yield from [points] if self._particle_dim is not None else points.split(1)

    def _held(self, points: Points) -> dict[str, Tensor]:
        leading = points.shape[:2]
        return {
            site.name: site.in_trace(
                points[..., site.columns].reshape(*leading, *site.shape),
                site.event, self._particle_dim,
            )
            for site in self.sites
        }  # fmt: skip

    def _run(self, handler: Messenger, num_particles: int) -> Any:
        program = poutine.trace(handler(poutine.replay(self.model, trace=self._rows)))
        with pyro.validation_enabled(False):
            if self._particle_dim is None:
                return program.get_trace(*self.data.args, **self.data.named)
            with pyro.plate(PARTICLE_PLATE, num_particles, dim=self._particle_dim):
                return program.get_trace(*self.data.args, **self.data.named)

    def _terms(self, points: Points) -> tuple[Tensor, Tensor]:
        handler = _Constraining(self._held(points))
        pair = PairTrace(trace := self._run(handler, len(points)), trace, self._particle_dim)
        prior = points.new_zeros(len(points), self.num_data)
        likelihood = torch.zeros_like(prior)
        for name, site in pair.latents().items():
            prior = prior + sites.log_density(site, self._particle_dim, self.factorises)
            volume = {**site, "scale": 1.0, "mask": None}
            prior = prior + sites.by_particle_and_datum(
                handler.log_volume[name], volume, self._particle_dim, self.factorises
            )
        for site in pair.observed().values():
            likelihood = likelihood + sites.log_density(site, self._particle_dim, self.factorises)
        return prior, likelihood

    def _value(self, site: Any) -> Tensor:
        return sites.value_of(site, self._particle_dim, self.factorises)

    def _flattened(self, found: Mapping[str, Any]) -> Points:
        columns = []
        for site in self.sites:
            node = found[site.name]
            width = len(site.event)
            value = self._with_data(self._value({**node, "fn": _EventOnly(width)}))
            columns.append(value.reshape(len(value), self.num_data, -1))
        return torch.cat(columns, -1)


@dataclass(frozen=True)
class _EventOnly:
    """Stands for a distribution of which only the event's number of dimensions is asked."""

    event_dim: int


class _Constraining(Messenger):
    """Fixes latent sites at the images of unconstrained values."""

    def __init__(self, points: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.points = points
        self.log_volume: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.points and not msg["is_observed"]:
            transform = biject_to(msg["fn"].support)
            point = self.points[name]
            value = transform(point)
            volume = transform.log_abs_det_jacobian(point, value)
            extra = value.dim() - msg["fn"].event_dim
            self.log_volume[name] = _sum_rightmost(volume, volume.dim() - extra)
            msg["value"], msg["done"] = value, True


def _freed(trace: Any, latents: Iterable[LatentSite]) -> dict[str, dict[str, Any]]:
    """Sites of a run, with the unconstrained counterparts of their values."""
    nodes = {site.name: trace.nodes[site.name] for site in latents}
    return {
        name: {**node, "value": biject_to(node["fn"].support).inv(node["value"])}
        for name, node in nodes.items()
    }


def _located(latents: Mapping[str, dict[str, Any]], per_datum: bool) -> tuple[LatentSite, ...]:
    """Give each latent site its columns."""
    found, start = [], 0
    for name, site in latents.items():
        fn, value = site["fn"], site["value"]
        if fn.support.is_discrete:
            raise SiteError(
                f"The latent site {name!r} is discrete ({type(fn).__name__}); gradients and "
                "Gaussian fits need continuous latents. Sum it out: mark it with "
                'infer={"enumerate": "parallel"}.'
            )
        event = tuple(fn.event_shape)
        free = tuple(biject_to(fn.support).inv(value).shape[value.dim() - len(event) :])
        width = value.dim() - len(event)
        data_dim = sites.data_dim(site) if per_datum else None
        batch = [(dim, value.shape[width + dim]) for dim in range(-width, 0) if dim != data_dim]
        around = {frame.dim for frame in site["cond_indep_stack"]}
        plates = tuple((dim, size) for dim, size in batch if size > 1 or dim in around)
        size = math.prod((*(size for _, size in plates), *free))
        columns = slice(start, start + size)
        found.append(LatentSite(name, columns, plates, data_dim, free, event))
        start += size
    return tuple(found)


@contextmanager
def latent_space(
    model: Callable[..., Any], data: Any, guide: Callable[..., Any] | None = None
) -> Iterator[LatentSpace]:
    """Open a model's latent space: inside, the model runs in double precision.

    Args:
        model: A Pyro program that observes ``data``.
        data: A tensor, or a mapping from argument name to tensor, rows first.
        guide: A guide that is run along with it, so that its parameters are in double precision
            as well.

    Yields:
        The space, for use inside the ``with`` block only.

    Raises:
        SiteError: If a latent site is discrete and cannot be summed out.
        DataError: If the model does not run on these data.
    """
    programs = (model,) if guide is None else (model, guide)
    with evaluating(*programs):
        rows = Data.of(data).to(dtype=torch.float64)
        prior = poutine.block(model, hide_fn=_is_observed)
        alone = run_once(model, prior, rows)
        dim: int | None = free_dim(alone)
        assert dim is not None
        if not (isinstance(model, Model) or vectorises(model, prior, rows, dim, alone)):
            dim = None
        yield LatentSpace(model, rows, alone, dim)


def _is_observed(msg: Any) -> bool:
    return bool(msg["type"] == "sample" and msg["is_observed"])
