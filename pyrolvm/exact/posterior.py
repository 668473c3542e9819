"""The exact posterior of a batch of observations, as an object to ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.exact import line_distribution
from pyrolvm.exact.density import log_density
from pyrolvm.exact.errors import ObservationError
from pyrolvm.exact.expectation import Expectation
from pyrolvm.exact.folding import Array, FoldedGenerator, to_numpy
from pyrolvm.exact.line_distribution import HighestDensity
from pyrolvm.exact.line_queries import LineQueries
from pyrolvm.exact.partition import LatentRegions, Partition, latent_regions
from pyrolvm.exact.sampling import draw


@dataclass(frozen=True)
class RegionProbabilities:
    """Posterior probabilities of affine regions, row-sparse: only regions that matter are listed.

    Attributes:
        offsets: Entries of datum n are ``offsets[n]:offsets[n + 1]``, ``(N + 1,)``.
        regions: Region of each entry.
        values: Its probability; those of one datum sum to 1.
        num_regions: Number of regions R.
    """

    offsets: Tensor
    regions: Tensor
    values: Tensor
    num_regions: int

    def dense(self) -> Tensor:
        """All probabilities, ``(N, R)``."""
        size = len(self.offsets) - 1
        rows = torch.repeat_interleave(torch.arange(size), self.offsets.diff())
        full = torch.zeros(size, self.num_regions, dtype=torch.float64)
        full.index_put_((rows, self.regions), self.values, accumulate=True)
        return full


@dataclass(frozen=True)
class PiecewisePosterior(LineQueries):
    """p(z | x_n) of a piecewise-affine generator: Gaussians cut to disjoint regions.

    Made by :func:`~pyrolvm.exact.solve`. Tensors are float64 on the device of x, without a graph.

    Attributes:
        folded: The generator in whitened coordinates.
        expectation: The E-step's result.
        device: Where results are put.
    """

    folded: FoldedGenerator = field(repr=False)
    expectation: Expectation = field(repr=False)
    device: torch.device

    def _tensor(self, values: Array | NDArray[np.int64] | NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    @property
    def size(self) -> int:
        """Number of data N."""
        return len(self.expectation.log_evidence)

    @property
    def latent_dim(self) -> int:
        """Number of latent coordinates S."""
        return self.folded.latent_dim

    @cached_property
    def log_evidence(self) -> Tensor:
        """Log p(x_n) in nats, ``(N,)``."""
        return self._tensor(self.expectation.log_evidence + self.expectation.constant)

    @cached_property
    def standard_error(self) -> Tensor:
        """Error of the log evidence from integration, nats, ``(N,)``; 0 up to three latents."""
        error = getattr(self.expectation, "error", np.zeros(self.size))
        return self._tensor(error)

    @cached_property
    def lost_mass(self) -> Tensor:
        """Bound on the posterior mass outside the box, relative to p(x), ``(N,)``; 0 in 1-D."""
        return self._tensor(self.expectation.lost_mass)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        mean, covariance = self.expectation.moments()
        factor = self.folded.prior_scale_tril
        covariance = factor @ covariance @ factor.T
        covariance = 0.5 * (covariance + covariance.transpose(0, 2, 1))
        return self._tensor(self.folded.to_latent(mean)), self._tensor(covariance)

    @property
    def mean(self) -> Tensor:
        """Posterior mean of z, ``(N, S)``."""
        return self._moments[0]

    @property
    def covariance(self) -> Tensor:
        """Posterior covariance of z, ``(N, S, S)``."""
        return self._moments[1]

    @cached_property
    def entropy(self) -> Tensor:
        """Entropy of the posterior in nats, log p(x) - E log p(x, z), ``(N,)``."""
        prior = 0.5 * self.latent_dim * np.log(2 * np.pi) + self.folded.log_det_prior
        return self._tensor(self.expectation.log_evidence - self.expectation.energy + prior)

    @property
    def partition(self) -> Partition:
        """The regions, maybe in a larger box than asked for; hand it to the next ``solve``."""
        return self.expectation.partition

    @property
    def num_regions(self) -> int:
        """Number of affine regions (inside the box, in 2-D)."""
        return self.partition.num_regions

    @property
    def num_pairs(self) -> int:
        """Number of (datum, region) integrals that were evaluated and kept."""
        return len(self.expectation.region)

    @cached_property
    def regions(self) -> LatentRegions:
        """Breakpoints or polygons and affine maps in the model's latent coordinates."""
        return latent_regions(self.partition, self.folded)

    @cached_property
    def region_probabilities(self) -> RegionProbabilities:
        """Posterior probabilities of the regions, row-sparse, on the host."""
        found = self.expectation
        return RegionProbabilities(
            offsets=torch.from_numpy(found.offsets),
            regions=torch.from_numpy(found.region.astype(np.int64)),
            values=torch.from_numpy(found.probability),
            num_regions=self.num_regions,
        )

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of the posterior, in nats.

        Args:
            z: Latent points, ``(..., N, S)``: one for each datum, with any leading dimensions.

        Returns:
            Log p(z | x_n), shape ``(..., N)``, float64, without a graph.

        Raises:
            ObservationError: If the last two dimensions are not ``(N, S)``.
        """
        if z.ndim < 2 or tuple(z.shape[-2:]) != (self.size, self.latent_dim):
            raise ObservationError(
                f"The posterior of {self.size} data needs points of shape "
                f"(..., {self.size}, {self.latent_dim}), but got {tuple(z.shape)}."
            )
        points = to_numpy(z).reshape(-1, self.size, self.latent_dim)
        found = self.expectation
        values = log_density(self.folded, found.reduced, found.log_evidence, points)
        return self._tensor(values.reshape(z.shape[:-1])).to(z.device)

    def log_tails(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log P(Z <= z | x_n) and log P(Z > z | x_n) for one latent, nats, each ``(..., N)``."""
        return line_distribution.log_tails(self, z)

    def icdf(self, probability: Tensor) -> Tensor:
        """Points z with given P(Z <= z | x_n), for one latent, ``(..., N)``."""
        return line_distribution.icdf(self, probability)

    def highest_density(self, mass: float) -> HighestDensity:
        """Smallest sets of one latent that hold a given probability.

        Args:
            mass: Probability of each set, strictly between 0 and 1.

        Returns:
            For each datum a union of intervals.

        Raises:
            LatentDimensionError: If there are more latent coordinates.
            ProbabilityError: If the mass is out of range.
        """
        return line_distribution.highest_density(self, mass)

    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw exactly and independently.

        Args:
            num: Draws for each datum.
            generator: Source of the seed; torch's global one by default.

        Returns:
            Draws of z, ``(num, N, S)``, float64, without a graph.
        """
        device = generator.device if generator is not None else None
        seed = torch.randint(2**62, (), generator=generator, device=device)
        return self._tensor(self.folded.to_latent(draw(self.expectation, num, int(seed))))
