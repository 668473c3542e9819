r"""The latent sites of a program as one unconstrained vector for each datum.

.. math:: \log \tilde p(x, u) = \log p(x, T(u)) + \log |\det T'(u)|, \qquad u \in \mathbb{R}^S

T maps each site's part of u onto the support of its distribution. What needs gradients or a flat
vector (annealing, Markov chains, Gaussian fits, distances between draws) works here, for any Pyro
program: sites inside the ``"data"`` plate give every datum a vector of its own; with a site
outside it the data set is one datum, N is 1, and the vector holds all latents. Discrete sites with
finite support are summed out, whether the model marks them or not.
"""

from __future__ import annotations

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
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.latent_site import LatentSite, located
from pyrolvm.core.matching import run_once
from pyrolvm.core.model import Model
from pyrolvm.core.summed_out import can_be_summed
from pyrolvm.core.tracing import Holding, PairTrace, free_dim, in_particles, subsamples
from pyrolvm.core.vectorising import vectorises

Points = Float[Tensor, "particle data S"]
"""Unconstrained vectors, shape ``(K, N, S)``."""


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
        self._enumeration = alone.enumeration
        self.global_sites = alone.outside_data_plate()
        self.sites = located(alone.latents(), self.factorises)
        self.num_data = sites.num_data(alone.observed()) if self.factorises else 1

    @property
    def factorises(self) -> bool:
        """Whether each datum has a posterior of its own."""
        return not self.global_sites

    @property
    def vectorised(self) -> bool:
        """Whether many particles run at once."""
        return self._particle_dim is not None

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

    def to_values(self, points: Points, names: Iterable[str] = ()) -> dict[str, Tensor]:
        """Values of sites at unconstrained points, ``(K, N, ...)``, or ``(K, ...)``.

        Args:
            points: Shape ``(K, N, S)``.
            names: The sites, deterministic ones too; none stands for all latent ones.
        """
        wanted = tuple(names) or tuple(site.name for site in self.sites)
        parts = []
        for part in self._runs(points):
            trace = self._run(_Constraining(self._held(part)), len(part))
            parts.append({name: self._value(trace.nodes[name]) for name in wanted})
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

    def _run(self, handler: Messenger, num_particles: int, summing: bool = False) -> Any:
        model = self.model
        if summing and self._enumeration is not None:
            model = self._enumeration.over(model)
        program = handler(poutine.replay(model, trace=self._rows))
        with pyro.validation_enabled(False):
            wrapped = in_particles(program, num_particles, self._particle_dim)
            return poutine.trace(wrapped).get_trace(*self.data.args, **self.data.named)

    def _terms(self, points: Points) -> tuple[Tensor, Tensor]:
        handler = _Constraining(self._held(points))
        trace = self._run(handler, len(points), summing=True)
        pair = PairTrace(trace, trace, self._particle_dim, self._enumeration)
        terms = pair.model_terms(self.factorises)
        prior = points.new_zeros(len(points), self.num_data)
        likelihood = torch.zeros_like(prior)
        for density in terms.likelihood.values():
            likelihood = likelihood + density
        for name, site in pair.latents().items():
            volume = {**site, "scale": 1.0, "mask": None}
            prior = prior + terms.prior[name]
            prior = prior + sites.by_particle_and_datum(
                handler.log_volume[name], volume, self._particle_dim, self.factorises
            )
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
        prior = poutine.block(model, hide_fn=_is_no_coordinate)
        alone = run_once(model, prior, rows, can_be_summed)
        dim: int | None = free_dim(alone)
        assert dim is not None
        if not (isinstance(model, Model) or vectorises(model, prior, rows, dim, alone)):
            dim = None
        yield LatentSpace(model, rows, alone, dim)


def _is_no_coordinate(msg: Any) -> bool:
    return bool(msg["type"] == "sample" and (msg["is_observed"] or can_be_summed(msg)))
