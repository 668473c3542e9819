"""The best member of a guide's family for each datum alone; of a Gaussian family elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Data, Guide, LogDensities, SiteError, log_densities
from pyrolvm.guides import PerDatum
from pyrolvm.guides.per_datum import Encoder
from pyrolvm.inference.curvature import gaussian_at_mode
from pyrolvm.inference.gaussian_oracle import (
    DIAGONAL,
    FULL_RANK,
    GaussianOracle,
    Shape,
    fit_gaussians,
    gaussians_near,
)
from pyrolvm.inference.guide_family import guide_family
from pyrolvm.inference.held_rows import Space
from pyrolvm.inference.oracle import Oracles, OracleSettings
from pyrolvm.inference.reference.starts import flattened_draws
from pyrolvm.inference.rows import Rows, space_at_rows

FULL_RANK_DIM = 50
"""Most coordinates for which full-rank Gaussians are fitted; beyond, diagonal ones."""
NAMES = {"diagonal": DIAGONAL.name, "full": FULL_RANK.name}
"""Families of the library that are Gaussians."""
POOL = 64
"""Draws that a climb to a mode begins among."""


@dataclass(frozen=True, eq=False)
class LocalOracle:
    """What the best member of a family reaches at each datum.

    Args:
        name: Of the family.
        log_weights: Of its fresh draws, shape ``(K, N)``.
        is_same_family: Whether the family is the guide's own.
        richer: Log weights of the best full-rank Gaussian where the family is a diagonal one;
            None elsewhere.
        note: What limits the comparison, a full sentence; empty if nothing does.
    """

    name: str
    log_weights: Float[Tensor, "particle data"]
    is_same_family: bool = True
    richer: Float[Tensor, "particle data"] | None = None
    note: str = ""


@dataclass(frozen=True)
class LocalFits:
    """How oracles are fitted.

    Args:
        model: A Pyro program.
        guide: The guide that is judged.
        data: All rows.
        rows: The chosen ones.
        steps: Gradient steps.
        num_particles: Draws of each score.
        seed: Of fits by the library's own training.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    data: Data
    rows: Rows
    steps: int
    num_particles: int
    seed: int

    def oracle(self, found: LogDensities) -> LocalOracle:
        """Fit the oracle that suits the guide.

        Args:
            found: Draws of the guide at the chosen rows, with their values.

        Raises:
            SiteError: If there is nothing to fit a Gaussian to.
        """
        if isinstance(self.guide, Guide) and self.guide.is_exact:
            return LocalOracle("exact posterior", found.log_weights)
        chosen = self.data if self.rows is None else self.data.rows(torch.as_tensor(self.rows))
        if isinstance(self.guide, Encoder) and found.factorises and chosen.only is not None:
            return self._own_family(chosen, self.guide, found)
        return self._gaussian(found)

    def _own_family(self, chosen: Data, guide: Encoder, found: LogDensities) -> LocalOracle:
        """Fit the family of a guide of PyroLVM, whatever it is."""
        oracle = PerDatum(guide.model, guide.family)
        settings = OracleSettings(self.steps, self.num_particles, self.seed, None, False)
        Oracles({}, chosen, settings).fit("oracle", self.model, oracle, guide)
        scored = log_densities(self.model, oracle, chosen, num_particles=self.num_particles)
        richer = None
        if guide.family.name == "diagonal":
            with self._space() as space:
                if space.dim <= FULL_RANK_DIM:
                    places = _places(space, found)
                    richer = self._fit(space, FULL_RANK, places).log_weights
        name = NAMES.get(guide.family.name, f"{guide.family.name} family")
        return LocalOracle(name, scored.log_weights, richer=richer)

    def _gaussian(self, found: LogDensities) -> LocalOracle:
        """Fit Gaussians in unconstrained coordinates."""
        family = guide_family(self.model, self.guide, self.data)
        with self._space() as space:
            if not space.dim:
                raise SiteError(
                    "A gap is split by Gaussians in the continuous latents, but this model has "
                    "none. Use a guide of PyroLVM with a family over its discrete latents."
                )
            too_many = space.dim > FULL_RANK_DIM
            shape = family.shape or FULL_RANK
            if too_many and shape is FULL_RANK:
                shape = DIAGONAL
            places = _places(space, found)
            fitted = self._fit(space, shape, places)
            richer = None
            if shape == DIAGONAL and not too_many:
                end = fitted.gaussians
                places.append((end.loc, end.covariance()))
                richer = self._fit(space, FULL_RANK, places).log_weights
        note = ""
        if family.shape != shape and too_many:
            note = (
                f"A full-rank Gaussian is not fitted to {space.dim} coordinates (at most "
                f"{FULL_RANK_DIM})."
            )
        return LocalOracle(shape.name, fitted.log_weights, family.shape == shape, richer, note)

    def _fit(
        self, space: Space, shape: Shape, places: Sequence[tuple[Tensor, Tensor]]
    ) -> GaussianOracle:
        """Start from given means and covariances."""
        starts = [gaussians_near(loc, covariance, shape) for loc, covariance in places]
        return fit_gaussians(space, starts, steps=self.steps, num_particles=self.num_particles)

    @contextmanager
    def _space(self) -> Iterator[Space]:
        with (
            space_at_rows(self.model, self.data, self.rows, self.guide) as space,
            pyro.validation_enabled(False),
        ):
            yield space


def _places(space: Space, found: LogDensities) -> list[tuple[Tensor, Tensor]]:
    """Means ``(N, S)`` and covariances ``(N, S, S)``: of the guide's draws, and at a mode."""
    points = space.to_points(found.values)
    mean = points.mean(0)
    rest = points - mean
    places = [(mean, torch.einsum("kns,knt->nst", rest, rest) / (len(points) - 1))]
    if space.dim <= FULL_RANK_DIM:
        pool = torch.cat([flattened_draws(space, POOL), mean[None]])
        places.append(gaussian_at_mode(space, pool))
    return places
