r"""The evidence of any model with one or two latent coordinates for each datum, by quadrature.

.. math:: p(x) = \int \tilde p(x, u) \, du
          \approx h^S \sum_{v \in h \mathbb{Z}^S} \tilde p(x, m + L \sinh v) \,
          |L| \prod_i \cosh v_i

m and L L' are mean and covariance of draws near the posterior; sinh lets a grid reach far tails.
The trapezoid rule converges faster than any power of h for smooth integrands; the same grid with
every other point left out tells how far it is. A box for each datum is grown and shrunk until it
holds all points within 34 nats of the highest one, among the grid's and those of draws of the
prior and of an annealed population, which mark modes that lie between the points of a grid.

References:
    Trefethen & Weideman (2014), The Exponentially Convergent Trapezoidal Rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyrolvm.core.latent_space import LatentSpace, Points
from pyrolvm.core.log_densities import CHUNK_ELEMENTS
from pyrolvm.inference.annealing.path import PriorPath, chain_elements, gaussian_of
from pyrolvm.inference.annealing.tuning import tune

MOST_DIMS = 2
DEPTH = 34.0
"""Nats below the highest point at which integrands are cut off; less than 1e-14 lies beyond."""
SCAN_POINTS = {1: 1025, 2: 97}
MOST_POINTS = {1: 2**18 + 1, 2: 1537}
MOST_RUNS = 3_000
"""Points at which a program is run that takes one particle at a time."""
MAX_WORK = 4e10
TOLERANCE, ACCEPTED = 1e-5, 1e-3
PRIOR_DRAWS = 512
ROUNDS = 40
NUM_LEAPFROG = 2

Mass = tuple[Float[Tensor, " data"], Float[Tensor, " data"], Float[Tensor, " data"]]


@dataclass(frozen=True)
class _Box:
    """A box of each datum in the coordinates v.

    Args:
        low: Shape ``(N, S)``.
        high: Shape ``(N, S)``.
    """

    low: Tensor
    high: Tensor

    def grid(self, points: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Indices, shape ``(P, S)``, and points, ``(P, N, S)``, some at a time."""
        axis = torch.arange(points, device=self.low.device)
        dims = self.low.shape[-1]
        every = torch.cartesian_prod(*[axis] * dims).reshape(-1, dims)
        for index in every.split(size):
            yield index, self.low + index[:, None] * self.step(points)

    def step(self, points: int) -> Tensor:
        """Distance of neighbouring points, shape ``(N, S)``."""
        return (self.high - self.low) / (points - 1)


class _Integrand:
    """Log of the integrand in the coordinates v of each datum."""

    def __init__(self, space: LatentSpace, near: Points) -> None:
        self.space = space
        normal = gaussian_of(near)
        self._loc, self._factor = normal.loc, normal.scale_tril
        self._log_volume = self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def __call__(self, v: Points) -> Tensor:
        points = self._loc + (self._factor @ v.sinh()[..., None])[..., 0]
        log_cosh = (v.abs() + torch.log1p((-2 * v.abs()).exp()) - math.log(2.0)).sum(-1)
        value = self.space.log_joint(points) + log_cosh + self._log_volume
        return torch.where(value.isnan(), -torch.inf, value)

    def coordinates(self, points: Points) -> Points:
        """V of unconstrained points."""
        rest = (points - self._loc)[..., None]
        return torch.linalg.solve_triangular(self._factor, rest, upper=False)[..., 0].asinh()

    @property
    def chunk(self) -> int:
        """Points that are evaluated at once."""
        return max(1, CHUNK_ELEMENTS // chain_elements(self.space))


def adaptive_quadrature(
    space: LatentSpace, draws: Points | None = None
) -> tuple[Float[Tensor, " data"], Float[Tensor, " data"]] | None:
    """Integrate the joint density over the latents of each datum.

    Args:
        space: A latent space with at most two coordinates.
        draws: Further points that mark where mass may lie, such as a guide's, ``(M, N, S)``.

    Returns:
        Log p(x) in nats and how much leaving out every other point changes it, shape ``(N,)``
        each; None where there are more coordinates or no affordable grid is fine enough.
    """
    dims = space.dim
    if dims == 0:
        value = space.log_joint(torch.zeros(1, space.num_data, 0))[0]
        return value, torch.zeros_like(value)
    if dims > MOST_DIMS or not _affordable(space, SCAN_POINTS[dims]):
        return None
    population = tune(PriorPath(space), NUM_LEAPFROG).population
    marks = [population, space.prior_points(PRIOR_DRAWS), *([] if draws is None else [draws])]
    integrand = _Integrand(space, population)
    at = torch.cat([integrand.coordinates(each) for each in marks])
    level = torch.cat([integrand(part) for part in at.split(integrand.chunk)])
    box = _enclose(integrand, at, level)
    return None if box is None else _refine(integrand, box, level.amax(0))


def _enclose(integrand: _Integrand, marks: Points, level: Tensor) -> _Box | None:
    """Find the box of each datum outside which nothing matters."""
    points = SCAN_POINTS[integrand.space.dim]
    box = _Box(marks.amin(0) - 0.5, marks.amax(0) + 0.5)
    for _ in range(ROUNDS):
        if not _affordable(integrand.space, points):
            return None
        low, high, top = _significant(integrand, box, points, level.amax(0))
        matters = (level > top - DEPTH)[..., None]
        low = torch.minimum(low, torch.where(matters, marks, torch.inf).amin(0))
        high = torch.maximum(high, torch.where(matters, marks, -torch.inf).amax(0))
        width, step = box.high - box.low, box.step(points)
        open_low, open_high = low <= box.low, high >= box.high
        new = _Box(
            torch.where(open_low, box.low - 0.5 * width, low - step),
            torch.where(open_high, box.high + 0.5 * width, high + step),
        )
        closed = not bool((open_low | open_high).any())
        if closed and bool(((new.high - new.low) > 0.9 * width).all()):
            return new
        if not bool((new.high < 300.0).all() and (new.low > -300.0).all()):
            return None  # sinh overflows soon: no finite mass
        box = new
    return None


def _significant(
    integrand: _Integrand, box: _Box, points: int, top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Corners of what matters on a grid, shape ``(N, S)`` each, and the highest level."""
    levels, places = [], []
    for _, at in box.grid(points, integrand.chunk):
        levels.append(integrand(at))
        places.append(at)
    level, place = torch.cat(levels), torch.cat(places)
    top = torch.maximum(top, level.amax(0))
    matters = (level > top - DEPTH)[..., None]
    low = torch.where(matters, place, torch.inf).amin(0)
    return low, torch.where(matters, place, -torch.inf).amax(0), top


def _refine(integrand: _Integrand, box: _Box, marked: Tensor) -> tuple[Tensor, Tensor] | None:
    """Halve the step until it does not matter."""
    dims = integrand.space.dim
    points = SCAN_POINTS[dims]
    best: tuple[Tensor, Tensor] | None = None
    while points <= MOST_POINTS[dims] and _affordable(integrand.space, points):
        value, coarse, top = _sum(integrand, box, points)
        change = (value - coarse).abs()
        seen = bool((top >= marked - 1.0).all())  # no mark stands on a spike between points
        if seen and bool((change <= ACCEPTED).all()):
            best = value, change
        if seen and bool((change <= TOLERANCE).all()):
            break
        points = 2 * points - 1
    return best


def _sum(integrand: _Integrand, box: _Box, points: int) -> Mass:
    """Logs of the sums over a grid and over every other point of it, and the highest level."""
    nothing = torch.full_like(box.low[:, 0], -torch.inf)
    parts = [
        (level.logsumexp(0), _masked(level, (index % 2 == 0).all(-1)), level.amax(0))
        for index, at in box.grid(points, integrand.chunk)
        for level in [integrand(at)]
    ]
    fine, coarse = (
        reduce(torch.logaddexp, (part[i] for part in parts), nothing) for i in range(2)
    )
    cell = box.step(points).log().sum(-1)
    top = reduce(torch.maximum, (part[2] for part in parts))
    return fine + cell, coarse + cell + integrand.space.dim * math.log(2.0), top


def _masked(level: Tensor, chosen: Bool[Tensor, " points"]) -> Tensor:
    return level[chosen].logsumexp(0) if bool(chosen.any()) else level[0] - torch.inf


def _affordable(space: LatentSpace, points: int) -> bool:
    number = points**space.dim
    work = number * chain_elements(space)
    return work <= MAX_WORK and (space.vectorised or number <= MOST_RUNS)
