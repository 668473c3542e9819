"""The exact posterior of rows of which some entries are missing, as an object to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from pyrolvm.exact.errors import ObservationError
from pyrolvm.exact.line_queries import LineQueries
from pyrolvm.exact.mixture_posterior import MixturePosterior
from pyrolvm.exact.partition import LatentRegions, Partition
from pyrolvm.exact.posterior import PiecewisePosterior

Part = PiecewisePosterior | MixturePosterior
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Pattern:
    """Rows whose entries are missing in the same places.

    Attributes:
        seen: Which coordinates were observed, bool ``(D,)``.
        rows: Numbers of the rows, ``(n,)``.
    """

    seen: Tensor
    rows: Tensor


@dataclass(frozen=True)
class ObservedPosterior(LineQueries):
    """p(z | observed entries of x_n): the posteriors of all patterns, in the order of the rows.

    Made by :func:`solve_observed`. Tensors are float64 on the device of x, without a graph.

    Attributes:
        patterns: Rows by pattern.
        parts: The posterior of each pattern's rows.
    """

    patterns: tuple[Pattern, ...] = field(repr=False)
    parts: tuple[Part, ...] = field(repr=False)

    @cached_property
    def _order(self) -> Tensor:
        """Where each row lies among the rows of all parts."""
        return torch.cat([pattern.rows for pattern in self.patterns]).argsort()

    def gather(self, values: Sequence[Tensor], dim: int = 0) -> Tensor:
        """Put what was computed for each part into the order of the rows."""
        return torch.cat(list(values), dim).index_select(dim, self._order.to(values[0].device))

    @property
    def size(self) -> int:
        """Number of data N."""
        return len(self._order)

    @property
    def latent_dim(self) -> int:
        """Number of latent coordinates S."""
        return self.parts[0].latent_dim

    @property
    def partition(self) -> Partition | tuple[Partition, ...]:
        """The regions in the largest box that a pattern needed; hand it to the next call."""
        return self.parts[-1].partition

    @property
    def regions(self) -> LatentRegions:
        """Regions, with the affine maps onto the coordinates that the last pattern observed."""
        return self.parts[-1].regions

    @cached_property
    def log_evidence(self) -> Tensor:
        """Log density of each row's observed entries in nats, ``(N,)``."""
        return self.gather([part.log_evidence for part in self.parts])

    @cached_property
    def lost_mass(self) -> Tensor:
        """Bound on the posterior mass outside the box, relative to the density, ``(N,)``."""
        return self.gather([part.lost_mass for part in self.parts])

    @cached_property
    def standard_error(self) -> Tensor:
        """Error of the log evidence from integration, nats, ``(N,)``; 0 up to three latents."""
        return self.gather([part.standard_error for part in self.parts])

    @cached_property
    def mean(self) -> Tensor:
        """Posterior mean of z, ``(N, S)``."""
        return self.gather([part.mean for part in self.parts])

    @cached_property
    def covariance(self) -> Tensor:
        """Posterior covariance of z, ``(N, S, S)``."""
        return self.gather([part.covariance for part in self.parts])

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density in nats at points ``(..., N, S)``; shape ``(..., N)``."""
        return self.gather(self._ask(lambda part, rows: part.log_prob(rows), z, -2), -1)

    def log_tails(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log P(Z <= z | x_n) and log P(Z > z | x_n) for one latent, nats, each ``(..., N)``."""
        found = self._ask(lambda part, rows: part.log_tails(rows), z, -1)
        below, above = zip(*found, strict=True)
        return self.gather(below, -1), self.gather(above, -1)

    def icdf(self, probability: Tensor) -> Tensor:
        """Points z with given P(Z <= z | x_n), for one latent, ``(..., N)``."""
        return self.gather(self._ask(lambda part, rows: part.icdf(rows), probability, -1), -1)

    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw exactly and independently, ``(num, N, S)``."""
        return self.gather([part.sample(num, generator) for part in self.parts], 1)

    def _ask(
        self, ask: Callable[[Part, Tensor], Answer], values: Tensor, dim: int
    ) -> list[Answer]:
        """Ask each part about its rows of a tensor that has the data at ``dim``."""
        if values.ndim < -dim or values.shape[dim] != self.size:
            raise ObservationError(
                f"The posterior of {self.size} data needs one entry for each at dimension {dim}, "
                f"but got {tuple(values.shape)}."
            )
        return [
            ask(part, values.index_select(dim, pattern.rows.to(values.device)))
            for part, pattern in zip(self.parts, self.patterns, strict=True)
        ]
