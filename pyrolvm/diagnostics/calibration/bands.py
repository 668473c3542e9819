r"""Is a set of ranks uniform? Simultaneous bands around its distribution function, and a p-value.

.. math:: c_j = \#\{i : r_i < e_j\}, \qquad c_j \sim \mathrm{Binomial}(N, e_j / (L + 1)), \qquad
          T = 2 \min_j \min\{P(C_j \le c_j), P(C_j \ge c_j)\}

at the edges :math:`e_j` of cells of equal size. The pointwise level γ of the bands is the one at
which all :math:`c_j` stay inside with the probability asked for; P(T <= t) is found exactly.
Counts in cells are independent Poisson numbers given their sum, so that the probability to stay
between two boundaries is a sequence of short convolutions, without simulation.

References:
    Säilynoja, Bürkner & Vehtari (2022), Graphical Test for Discrete Uniformity and its
    Applications in Goodness-of-Fit Evaluation and Multiple Sample Comparison.
    Moscovich & Nadler (2017), Fast Calculation of Boundary Crossing Probabilities for Poisson
    Processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

MOST_CELLS = 100
"""Cells of the distribution function at most."""

Array = np.ndarray
LEAST = 1e-14
"""Tail probability from which 1 − P has no digits left, and quantiles are hard to find."""


@dataclass(frozen=True)
class UniformityTest:
    """The distribution function of ranks against that of uniform ones.

    Args:
        num_ranks: Values L + 1 that a rank can have.
        size: Number N of ranks.
        edges: Ends of the cells but the last, ranks below which are counted, shape ``(J,)``.
    """

    num_ranks: int
    size: int
    edges: Int[Array, " edge"]

    @classmethod
    def of(cls, num_ranks: int, size: int) -> UniformityTest:
        """Choose cells of equal size, or as equal as whole ranks allow."""
        cells = min(num_ranks, MOST_CELLS)
        edges = np.round(np.arange(1, cells) * num_ranks / cells).astype(int)
        return cls(num_ranks, size, edges)

    @property
    def nominal(self) -> Float[Array, " edge"]:
        """Share of uniform ranks below each edge."""
        return self.edges / self.num_ranks

    def counts(self, ranks: Int[Array, " simulation"]) -> Int[Array, " edge"]:
        """Number of ranks below each edge."""
        return np.searchsorted(np.sort(ranks), self.edges, side="left")

    def p_value(self, ranks: Int[Array, " simulation"]) -> float:
        """Probability that uniform ranks leave the bands as far as these do.

        It is exact down to what double precision leaves of 1 − P; below, it is a bound from above.
        """
        extremity = self._extremity(self.counts(ranks))
        if extremity < LEAST:
            return extremity * len(self.edges)
        return 1.0 - self._stays_inside(extremity)

    def level(self, probability: float = 0.95) -> float:
        """Largest pointwise γ whose bands hold all of the function with a probability."""
        low, high = 0.0, 1.0 - probability
        for _ in range(40):
            middle = (low + high) / 2
            if self._stays_inside(middle) >= probability:
                low = middle
            else:
                high = middle
        return low

    def bands(
        self, probability: float = 0.95
    ) -> tuple[Float[Array, " edge"], Float[Array, " edge"]]:
        """Shares between which the whole function stays with a probability, at each edge."""
        low, high = self._limits(self.level(probability))
        return low / self.size, high / self.size

    def _extremity(self, counts: Int[Array, " edge"]) -> float:
        below = stats.binom.cdf(counts, self.size, self.nominal)
        above = stats.binom.sf(counts - 1, self.size, self.nominal)
        return float(2 * np.minimum(below, above).min(initial=0.5))

    def _limits(self, gamma: float) -> tuple[Int[Array, " edge"], Int[Array, " edge"]]:
        """Least and greatest count at each edge whose tails both exceed γ / 2."""
        tail = gamma / 2 * (1 + 1e-9)  # a count found to be on the limit stays on it
        low = np.asarray(stats.binom.ppf(tail, self.size, self.nominal), int)
        low += stats.binom.cdf(low, self.size, self.nominal) <= tail
        high = np.asarray(stats.binom.isf(tail, self.size, self.nominal), int)
        high -= stats.binom.sf(high - 1, self.size, self.nominal) <= tail
        return np.maximum(low, 0), np.minimum(high, self.size)

    def _stays_inside(self, gamma: float) -> float:
        """Probability that at no edge a tail is γ / 2 or less."""
        low, high = self._limits(gamma)
        if (low > high).any():
            return 0.0
        steps = np.diff([0, *self.edges, self.num_ranks]) * self.size / self.num_ranks
        counts = np.arange(self.size + 1)
        kernels = {step: stats.poisson.pmf(counts, step) for step in set(steps)}
        ends = [*zip(low, high, strict=True), (self.size, self.size)]
        inside, start = np.ones(1), 0
        for step, (least, most) in zip(steps, ends, strict=True):
            reach = np.convolve(inside, kernels[step][: most - start + 1])
            inside, start = reach[least - start : most - start + 1], least
        return float(np.clip(inside[0] / stats.poisson.pmf(self.size, self.size), 0.0, 1.0))
