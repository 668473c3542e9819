"""The evidence of any Pyro program, by the first of five routes that it allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pyrolvm.core import BinaryLayers, Data, EvidenceError, HasEvidence, Model, SiteError, serves
from pyrolvm.core.enumerated_evidence import log_evidence_by_enumeration
from pyrolvm.core.errors import SettingError, require_at_least, require_seed
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.latent_space import LatentSpace, Points, latent_space
from pyrolvm.core.log_densities import log_densities
from pyrolvm.core.pairing import offers
from pyrolvm.core.randomness import own_randomness
from pyrolvm.guides import ExactCPA
from pyrolvm.inference.adaptive_quadrature import MOST_DIMS, adaptive_quadrature
from pyrolvm.inference.annealing import AnnealingSettings, annealed_evidence
from pyrolvm.inference.enumeration import can_enumerate
from pyrolvm.inference.evidence import (
    EXACT_DIMS,
    LARGE_ERROR,
    Evidence,
    environment_evidence,
    exact_log_evidence,
    has_exact_evidence,
    why_not_exact,
)
from pyrolvm.inference.importance_evidence import many_particles_evidence
from pyrolvm.inference.quadrature import is_in_reach, quadrature_evidence

Method = Literal["auto", "exact", "enumerated", "quadrature", "ais", "iwae"]
GUIDE_MARKS = 200
"""Draws of a guide that tell quadrature where to look."""


def log_evidence(
    model: Callable[..., Any],
    data: Any,
    method: Method = "auto",
    *,
    guide: Callable[..., Any] | None = None,
    num_particles: int = 1000,
    annealing: AnnealingSettings | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Evidence:
    """Log p(x) of each datum, of any Pyro program, with its error and how it was obtained.

    ``"auto"`` takes the first of these that the model allows:

    - ``"exact"``: a closed form, or a piecewise-affine generator with up to five latents (from
      four on with an error of about 1e-4 nats, ``"lattice"``);
    - ``"enumerated"``: a sum over all values of latents that are all discrete;
    - ``"quadrature"``: at most two continuous coordinates, where a grid is fine enough;
    - ``"ais"``: annealed importance sampling, for any continuous latents; discrete ones with
      finite support are summed out;
    - ``"iwae"``: the lower bound by K draws of a guide.

    The value is differentiable in the parameters of a model of PyroLVM where it is exact or
    enumerated: maximising ``log_evidence(model, x).value.mean()`` by any torch optimizer is
    exact maximum likelihood.

    Args:
        model: A Pyro program that observes ``data``.
        data: A tensor, or a mapping from argument name to tensor, rows first.
        method: The route.
        guide: A Pyro program with the same arguments: needed by ``"iwae"``, and by ``"ais"`` that
            starts from it; tells ``"quadrature"`` where to look.
        num_particles: Draws K of the guide for ``"iwae"``.
        annealing: How long ``"ais"`` takes.
        seed: The same seed gives the same figures.
        progress: Whether annealing shows a progress bar.

    Returns:
        Nats, shape ``(N,)``, or ``(1,)`` where a latent site lies outside the data plate.

    Raises:
        EvidenceError: If the model does not allow the method; the message says which it allows.
        DataError: If the model does not run on the data.

    >>> from pyrolvm import models
    >>> model = models.LinearGaussian(latent_dim=2, obs_dim=4)
    >>> log_evidence(model, model(size=3)).method
    'exact'
    """
    require_seed(seed)
    require_at_least(1, num_particles=num_particles)
    if method not in get_args(Method):
        raise SettingError(f"method should be one of {get_args(Method)}, but it is {method!r}.")
    rows = Data.of(data)
    if isinstance(model, Model):
        rows.check_finite()
    settings = annealing or AnnealingSettings()
    request = _Request(model, rows, guide, num_particles, settings, seed, progress)
    for name in _ROUTES if method == "auto" else [method]:
        found = None if request.obstacle(name) else getattr(request, f"by_{name}")()
        if found is not None:
            return found
    raise EvidenceError(_refusal(request, method))


@dataclass(frozen=True)
class _Request:
    """What is asked for, and what the model turns out to allow.

    Each ``by_`` method is a route; it returns None where it did not lead to the end.
    """

    model: Any
    rows: Data
    guide: Any
    num_particles: int
    annealing: AnnealingSettings
    seed: int
    progress: bool

    def obstacle(self, route: str) -> str | None:
        """Say why a route is closed, as the end of a sentence that begins with the model."""
        if route == "exact":
            return None if has_exact_evidence(self.model) else why_not_exact(self.model)
        if route == "enumerated":
            known = can_enumerate(self.model) or self._enumerated is not None
            wide = why_not_exact(self.model) if offers(self.model, BinaryLayers) else ""
            return None if known else wide or "has latents that cannot all be summed over"
        if route == "iwae":
            return "needs a guide, guide=" if self.guide is None else None
        if isinstance(self._dim, str):
            return self._dim
        if route == "quadrature" and self._dim > MOST_DIMS:
            return f"has {self._dim} continuous coordinates a datum, and grids serve {MOST_DIMS}"
        return None

    @cached_property
    def _enumerated(self) -> Tensor | None:
        return log_evidence_by_enumeration(self.model, self.rows)

    @cached_property
    def _dim(self) -> int | str:
        """Number of continuous coordinates of a datum, or why it has no latent space."""
        try:
            with own_randomness(self.seed), latent_space(self.model, self.rows) as space:
                return space.dim
        except SiteError as error:
            return f"has a latent site in the way. {str(error).rstrip('.')}"

    def by_exact(self) -> Evidence:
        value = exact_log_evidence(self.model, self.rows)
        error, method = torch.zeros_like(value.detach()), "exact"
        if not offers(self.model, HasEvidence) and self.model.latent_dim > EXACT_DIMS:
            assert serves(ExactCPA, self.model)
            with evaluating(self.model):
                x = self.rows.only
                assert x is not None
                error = ExactCPA(self.model).posterior(x.double()).solved.standard_error
            method = "lattice"
        return Evidence(value, error, method, is_bound=False)

    def by_enumerated(self) -> Evidence:
        live = can_enumerate(self.model)
        value = exact_log_evidence(self.model, self.rows) if live else self._enumerated
        assert value is not None
        return Evidence(value, torch.zeros_like(value.detach()), "enumerated", is_bound=False)

    def by_quadrature(self) -> Evidence | None:
        found = self._by_grid_of_prior()
        if found is not None:
            return found
        with own_randomness(self.seed), latent_space(self.model, self.rows, self.guide) as space:
            grid = adaptive_quadrature(space, self._marks(space))
        return None if grid is None else Evidence(*grid, "quadrature", is_bound=False)

    def _marks(self, space: LatentSpace) -> Points | None:
        """Draws of the guide."""
        if self.guide is None:
            return None
        drawn = log_densities(
            self.model, self.guide, self.rows, num_particles=GUIDE_MARKS, keep_values=True
        )
        return space.to_points(drawn.values)

    def _by_grid_of_prior(self) -> Evidence | None:
        """Faster, where prior and likelihood are at hand or the data come with environments."""
        x = self.rows.only
        if x is None:
            return environment_evidence(self.model, self.rows)
        if not is_in_reach(self.model):
            return None
        with evaluating(self.model):
            found = quadrature_evidence(self.model, x.double())
        return None if found is None else Evidence(*found, "quadrature", is_bound=False)

    def by_ais(self) -> Evidence:
        found = annealed_evidence(
            self.model, self.rows, self.annealing,
            guide=self.guide, seed=self.seed, progress=self.progress,
        )  # fmt: skip
        error, method = found.standard_error, self.annealing.method
        is_bound = error.median().item() > LARGE_ERROR
        return Evidence(found.value, error, method, is_bound, annealed=found)

    def by_iwae(self) -> Evidence:
        name = getattr(self.guide, "__name__", type(self.guide).__name__)
        with own_randomness(self.seed):
            return many_particles_evidence(
                self.model, self.guide, self.rows, self.num_particles, name
            )


_ROUTES = ("exact", "enumerated", "quadrature", "ais", "iwae")


def _refusal(request: _Request, method: str) -> str:
    """Say why the evidence was not obtained, and what would do."""
    name = getattr(request.model, "__name__", type(request.model).__name__)
    if method == "auto":
        return (
            f"log_evidence found no method for {name}: it {request.obstacle('enumerated')}, and "
            f"it {request.obstacle('ais')}. Pass a guide: "
            "log_evidence(model, data, guide=guide) then gives the IWAE bound."
        )
    why = request.obstacle(method) or "has a posterior that no affordable grid resolves"
    others = [each for each in _ROUTES if each != method and request.obstacle(each) is None]
    would = " or ".join(f"method={each!r}" for each in others)
    return (
        f"log_evidence by method={method!r} cannot serve {name}: it {why}. "
        f"{f'{would} would do' if would else 'Pass a guide for the IWAE bound, guide='}."
    )
