r"""E-step for learning: exact posterior moments of all data under the current generator.

The observed coordinates are reduced first (see :mod:`pyrolvm.exact.folding`): with y = (x - v) /
sigma and the QR factorisation W_last / sigma = Q R, hidden layers and prior are learned from Q^T y
alone, which has no more coordinates than the last hidden layer has units. Under a mixture prior
each component has a posterior of its own, with weight

.. math:: r_{nk} = \pi_k \, p_k(x_n) \, / \sum_j \pi_j \, p_j(x_n) .
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import zip_longest
from math import log, pi

import numpy as np
import torch
from torch import Tensor

from pyrolvm.exact.folding import Array, fold
from pyrolvm.exact.learning.region_sums import RegionSums, region_sums
from pyrolvm.exact.partition import (
    DEFAULT_MAX_REGIONS,
    Partition,
    find_partition,
    fingerprint,
)
from pyrolvm.exact.posterior import PiecewisePosterior
from pyrolvm.exact.solving import solve_one
from pyrolvm.exact.stack import AffineStack

# Pairs (datum, region) that are held at a time, unless so few rows already have more.
MOST_PAIRS = 2**20
FEWEST_ROWS = 256

Summed = tuple[tuple[RegionSums, ...], Array]


@dataclass(frozen=True)
class ReducedData:
    """Data in reduced coordinates; they hold as long as last layer and noise stay.

    Attributes:
        y: Q^T y, float64, ``(N, D')``.
        last: R, ``(D', H)``.
        constant: Log density of what was reduced away, in nats, ``(N,)``.
    """

    y: Tensor
    last: Tensor
    constant: Array

    @classmethod
    def of(cls, stack: AffineStack, x: Array) -> ReducedData:
        """Reduce data ``(N, D)`` by a generator's last layer and noise."""
        dim = stack.latent_dim
        standard = replace(
            stack,
            prior_loc=torch.zeros(dim, dtype=torch.float64),
            prior_scale_tril=torch.eye(dim, dtype=torch.float64),
            prior_logits=None,
        )
        folded = fold(standard)
        y, constant = folded.reduce(x)
        constant = constant + 0.5 * y.shape[1] * log(2 * pi)
        return cls(torch.from_numpy(y), torch.from_numpy(folded.last), constant)

    def generator(self, stack: AffineStack) -> AffineStack:
        """The generator of the reduced data: unit noise, no last bias."""
        width = len(self.last)
        return replace(
            stack,
            weights=(*stack.weights[:-1], self.last),
            biases=(*stack.biases[:-1], torch.zeros(width, dtype=torch.float64)),
            noise_scale=torch.ones(width, dtype=torch.float64),
        )


@dataclass(frozen=True)
class ExpectationStep:
    """The likelihood of all data, and sums of their posteriors.

    Attributes:
        stack: The generator; float64 on the host, without a graph.
        reduced: The data in its reduced coordinates.
        partitions: Regions under each component; hand them to the next step.
        responsibilities: r, ``(N, K)``.
        log_evidence: Log p(x_n) in nats, ``(N,)``.
    """

    stack: AffineStack
    reduced: ReducedData
    partitions: tuple[Partition, ...]
    responsibilities: Array
    log_evidence: Array
    _summed: Callable[[], Summed] = field(repr=False)

    @property
    def nll(self) -> float:
        """Negative log likelihood in nats per datum."""
        return float(-self.log_evidence.mean())

    @cached_property
    def _totals(self) -> Summed:
        return self._summed()

    @property
    def sums(self) -> tuple[RegionSums, ...]:
        """Sums over the regions under each component (more than one where a box has grown)."""
        return self._totals[0]

    @property
    def features(self) -> Array:
        """Posterior mean of the last hidden layer, ``(N, H)``."""
        return self._totals[1]


def expectation_step(
    stack: AffineStack,
    x: Array,
    *,
    reduced: ReducedData | None = None,
    partitions: Sequence[Partition] = (),
    max_regions: int = DEFAULT_MAX_REGIONS,
) -> ExpectationStep:
    """Run the E-step, in portions of data so that memory stays bounded.

    Args:
        stack: The generator; float64 on the host, without a graph.
        x: Observations, ``(N, D)``.
        reduced: The reduced data, if last layer and noise are those of an earlier step.
        partitions: Regions of an earlier step, for components whose hidden layers and prior are
            still the same.
        max_regions: Most regions allowed, for each component.

    Returns:
        Likelihood and sums. The sums of a single portion are made when they are first asked for.

    Raises:
        PyroLVMError: Whatever :func:`~pyrolvm.exact.solve` raises.
    """
    reduced = ReducedData.of(stack, x) if reduced is None else reduced
    components = reduced.generator(stack).components()
    found = [
        _regions(component, partition, max_regions)
        for component, partition in zip_longest(components, partitions)
    ]
    rows = max(FEWEST_ROWS, MOST_PAIRS // sum(partition.num_regions for partition in found))
    evidence, shares, portions = [], [], []
    for begin in range(0, len(x), rows):
        y = reduced.y[begin : begin + rows]
        posteriors = [
            solve_one(component, y, partition, None, max_regions)
            for component, partition in zip(components, found, strict=True)
        ]
        found = [posterior.partition for posterior in posteriors]
        columns = torch.stack([posterior.log_evidence for posterior in posteriors], 1)
        if stack.prior_logits is not None:
            columns = columns + stack.prior_logits.log_softmax(0)
        evidence.append(columns.logsumexp(1).numpy())
        shares.append(columns.softmax(1).numpy())
        portion = partial(_sum_portion, stack, posteriors, y.numpy(), shares[-1])
        if rows < len(x):
            portion = partial(_identity, portion())
        portions.append(portion)
    return ExpectationStep(
        stack=stack,
        reduced=reduced,
        partitions=tuple(found),
        responsibilities=np.concatenate(shares),
        log_evidence=np.concatenate(evidence) + reduced.constant,
        _summed=lambda: _total([portion() for portion in portions]),
    )


def _identity(value: Summed) -> Summed:
    return value


def _regions(stack: AffineStack, partition: Partition | None, max_regions: int) -> Partition:
    folded = fold(stack)
    if partition is not None and partition.fingerprint == fingerprint(folded):
        return partition
    return find_partition(folded, None, max_regions)


def _sum_portion(
    stack: AffineStack, posteriors: Sequence[PiecewisePosterior], y: Array, shares: Array
) -> Summed:
    found = [
        region_sums(stack, k, posterior, y, np.ascontiguousarray(shares[:, k]))
        for k, posterior in enumerate(posteriors)
    ]
    features: Array = sum((each[1] for each in found[1:]), found[0][1])
    return tuple(each[0] for each in found), features


def _total(portions: Sequence[Summed]) -> Summed:
    """Add the sums of portions, apart for regions that are not the same."""
    total: dict[tuple[int, int], RegionSums] = {}
    for sums, _ in portions:
        for part in sums:
            key = part.component, id(part.partition)
            total[key] = total[key].plus(part) if key in total else part
    return tuple(total.values()), np.concatenate([features for _, features in portions])
