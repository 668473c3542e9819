r"""Distribution function, quantiles and highest-density sets of a posterior with one latent.

.. math:: P(z \le t \mid x) = \frac{1}{p(x)} \sum_\omega \kappa_\omega(x)
          \int_{\omega \cap (-\infty, t]} N(z; \mu_\omega(x), \Sigma_\omega) \, dz

Every piece counts here, also those that are too improbable to matter for the evidence, and sums
run in log space from the nearer end: tails are accurate relative to themselves. Within a piece
the density is Gaussian, so that level sets are found piece by piece, without a grid.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (equation of the posterior).
    Hyndman (1996), Computing and Graphing Highest Density Regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyrolvm.exact.errors import LatentDimensionError, ObservationError, ProbabilityError
from pyrolvm.exact.folding import Array, to_numpy
from pyrolvm.exact.line_queries import check_mass
from pyrolvm.exact.threads import run_in_threads

if TYPE_CHECKING:
    from pyrolvm.exact.posterior import PiecewisePosterior


@dataclass(frozen=True)
class HighestDensity:
    """For each datum the smallest set of latents with a given probability: a union of intervals.

    Attributes:
        mass: Probability of each set.
        offsets: Intervals of datum n are ``offsets[n]:offsets[n + 1]``, ``(N + 1,)``.
        lower: Lower ends, increasing for each datum.
        upper: Upper ends.
        log_level: Log density on the border of the set, in nats, ``(N,)``.
    """

    mass: float
    offsets: Tensor
    lower: Tensor
    upper: Tensor
    log_level: Tensor

    @property
    def num_intervals(self) -> Tensor:
        """Number of intervals of each datum, ``(N,)``: more than one if modes stand apart."""
        return self.offsets.diff()

    @property
    def length(self) -> Tensor:
        """Total length of each datum's intervals, ``(N,)``."""
        size = len(self.offsets) - 1
        rows = torch.repeat_interleave(torch.arange(size), self.num_intervals.cpu())
        lengths = self.upper - self.lower
        return lengths.new_zeros(size).index_add_(0, rows.to(lengths.device), lengths)

    def of(self, datum: int) -> Tensor:
        """Intervals of one datum, ``(intervals, 2)``."""
        begin, end = self.offsets[datum], self.offsets[datum + 1]
        return torch.stack([self.lower[begin:end], self.upper[begin:end]], 1)


def log_tails(posterior: PiecewisePosterior, z: Tensor) -> tuple[Tensor, Tensor]:
    """Log tails; see :meth:`~pyrolvm.exact.line_queries.LineQueries.log_tails`."""
    from pyrolvm.exact.line_kernel import tails

    _check(posterior, "The distribution function")
    points = _rows(posterior, z, "points")
    loc, scale = _prior(posterior)
    whitened = np.ascontiguousarray((points - loc) / scale)
    found = posterior.expectation
    below, above = np.empty(points.shape), np.empty(points.shape)
    geometry = _geometry(posterior)

    def run(begin: int, end: int) -> None:
        tails(
            begin, end, whitened, found.partition.edges, found.reduced, geometry, below, above
        )  # fmt: skip

    run_in_threads(run, posterior.size, 8)
    first, second = (torch.from_numpy(v.reshape(z.shape)).to(z.device) for v in (below, above))
    return first, second


def icdf(posterior: PiecewisePosterior, probability: Tensor) -> Tensor:
    """Quantiles; see :meth:`~pyrolvm.exact.line_queries.LineQueries.icdf`."""
    from pyrolvm.exact.line_kernel import quantiles

    _check(posterior, "The quantile")
    values = _rows(posterior, probability, "probabilities")
    if not ((values >= 0) & (values <= 1)).all():
        raise ProbabilityError(
            f"A quantile needs probabilities from 0 to 1, but got {values.min():g} to "
            f"{values.max():g}."
        )
    with np.errstate(divide="ignore"):
        below, above = np.log(values), np.log1p(-values)
    found, geometry = posterior.expectation, _geometry(posterior)
    out = np.empty(values.shape)

    def run(begin: int, end: int) -> None:
        quantiles(begin, end, below, above, found.reduced, geometry, out)

    run_in_threads(run, posterior.size, 8)
    loc, scale = _prior(posterior)
    return torch.from_numpy((out * scale + loc).reshape(probability.shape)).to(probability.device)


def highest_density(posterior: PiecewisePosterior, mass: float) -> HighestDensity:
    """Smallest sets of latents that hold a given probability.

    Args:
        posterior: With one latent coordinate.
        mass: Probability of each set, strictly between 0 and 1.

    Returns:
        For each datum a union of intervals.

    Raises:
        LatentDimensionError: If there are more latent coordinates.
        ProbabilityError: If the mass is not strictly between 0 and 1.
    """
    from pyrolvm.exact.highest_density_kernel import densest_sets

    _check(posterior, "The highest-density set")
    check_mass(mass)
    found, geometry = posterior.expectation, _geometry(posterior)

    def run(begin: int, end: int) -> tuple[Array, ...]:
        return densest_sets(begin, end, float(mass), found.reduced, geometry)

    parts = run_in_threads(run, posterior.size, 8, 1024)
    counts, ends, cuts = (np.concatenate(column) for column in zip(*parts, strict=True))
    loc, scale = _prior(posterior)
    both = torch.from_numpy(ends * scale + loc).to(posterior.device)
    return HighestDensity(
        mass=float(mass),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])).to(posterior.device),
        lower=both[:, 0].contiguous(),
        upper=both[:, 1].contiguous(),
        log_level=torch.from_numpy(cuts - np.log(scale)).to(posterior.device),
    )


def _check(posterior: PiecewisePosterior, what: str) -> None:
    if posterior.latent_dim != 1:
        raise LatentDimensionError(
            f"{what} is for one latent coordinate, but this posterior has {posterior.latent_dim}. "
            "Use sample() and take shares of the draws."
        )


def _rows(posterior: PiecewisePosterior, values: Tensor, what: str) -> Array:
    """Copy ``(..., N)`` to an array ``(P, N)``."""
    if values.ndim < 1 or values.shape[-1] != posterior.size:
        raise ObservationError(
            f"The posterior of {posterior.size} data needs {what} of shape "
            f"(..., {posterior.size}), but got {tuple(values.shape)}."
        )
    if values.isnan().any():
        raise ObservationError(f"The posterior needs {what} that are not NaN. Remove those rows.")
    return np.ascontiguousarray(to_numpy(values).reshape(-1, posterior.size))


def _prior(posterior: PiecewisePosterior) -> tuple[float, float]:
    folded = posterior.folded
    return float(folded.prior_loc[0]), float(folded.prior_scale_tril[0, 0])


def _geometry(posterior: PiecewisePosterior) -> tuple[Array, ...]:
    g = posterior.expectation.geometry
    return g.values, g.anchors, g.basis, g.factor, g.log_det, g.corners
