"""Sums of an E-step over data, for the regions under one component of the prior."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.learning.region_maps import hidden_maps, latent_maps
from pyrolvm.exact.learning.statistics import RegionMoments
from pyrolvm.exact.partition import Partition
from pyrolvm.exact.posterior import PiecewisePosterior
from pyrolvm.exact.stack import AffineStack


@dataclass(frozen=True)
class RegionSums:
    """What the M-steps need of the regions that carry mass.

    Attributes:
        component: Number of the prior's component.
        folded: The generator under it.
        partition: Its regions.
        used: Those that carry mass, ``(R,)``.
        outer: Moments M (see :mod:`~pyrolvm.exact.learning.statistics`), ``(R, S + 1, S + 1)``.
        targets: Moments T with the reduced data, ``(R, S + 1, D')``.
        second: Sum over data of the posterior mean of h h^T, h the last hidden layer, ``(H, H)``.
    """

    component: int
    folded: FoldedGenerator
    partition: Partition
    used: NDArray[np.int64]
    outer: Array
    targets: Array
    second: Array

    @property
    def anchors(self) -> Array:
        """One point of each region, ``(R, S)``."""
        return self.partition.anchors[self.used]

    @property
    def codes(self) -> NDArray[np.bool_]:
        """Whether each hidden unit is positive there, ``(R, units)``."""
        return self.partition.codes[self.used]

    def plus(self, other: RegionSums) -> RegionSums:
        """Add the sums over other data, under the same component and partition."""
        used = np.union1d(self.used, other.used)

        def added(mine: Array, theirs: Array) -> Array:
            total = np.zeros((len(used), *mine.shape[1:]))
            total[np.searchsorted(used, self.used)] += mine
            total[np.searchsorted(used, other.used)] += theirs
            return total

        return replace(
            self,
            used=used,
            outer=added(self.outer, other.outer),
            targets=added(self.targets, other.targets),
            second=self.second + other.second,
        )


def region_sums(
    stack: AffineStack, component: int, posterior: PiecewisePosterior, y: Array, weight: Array
) -> tuple[RegionSums, Array]:
    """Sum the posteriors of data under one component.

    Args:
        stack: The generator; float64 on the host.
        component: Number of the component.
        posterior: The posteriors.
        y: Reduced data, ``(N, D')``.
        weight: Responsibility of the component for each datum, ``(N,)``.

    Returns:
        The sums, and the weighted posterior mean of the last hidden layer, ``(N, H)``.
    """
    folded, partition = posterior.folded, posterior.partition
    moments = RegionMoments(posterior.expectation, weight)
    maps = hidden_maps(stack, latent_maps(folded, moments.anchors), moments.codes)[0][-1]
    sums = RegionSums(
        component=component,
        folded=folded,
        partition=partition,
        used=moments.used,
        outer=moments.outer,
        targets=moments.cross(y),
        second=moments.second(maps),
    )
    return sums, moments.expected(maps) * weight[:, None]
