r"""The histogram of ranks, its test, and resampled distribution functions.

.. math:: \chi^2 = \sum_b \frac{(n_b - N p_b)^2}{N p_b}

over bins that hold a share :math:`p_b` of the values that a rank can have.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

MOST_BINS = 20
LEAST_EXPECTED = 5
"""Expected ranks of a bin from which on the law of chi squared holds well."""

Array = np.ndarray


def bin_edges(num_ranks: int, size: int) -> Int[Array, " edge"]:
    """Ends of bins that ranks fall into, from 0 to the number of ranks.

    Args:
        num_ranks: Values L + 1 that a rank can have.
        size: Number of ranks.
    """
    bins = max(2, min(MOST_BINS, num_ranks, size // LEAST_EXPECTED))
    return np.round(np.linspace(0, num_ranks, bins + 1)).astype(int)


def chi_squared_p_value(ranks: Int[Array, " simulation"], num_ranks: int) -> float:
    """p-value of Pearson's test that ranks are uniform over bins.

    Args:
        ranks: Whole numbers from 0 to L.
        num_ranks: L + 1.
    """
    edges = bin_edges(num_ranks, len(ranks))
    counts, _ = np.histogram(ranks, edges - 0.5)
    expected = np.diff(edges) * len(ranks) / num_ranks
    return float(stats.chisquare(counts, expected).pvalue)


def expected_limits(
    num_ranks: int, size: int, probability: float
) -> tuple[Int[Array, " bin"], Int[Array, " bin"]]:
    """Counts between which each bin of uniform ranks lies with a probability, one at a time.

    Args:
        num_ranks: L + 1.
        size: Number of ranks.
        probability: For every bin alone.
    """
    shares = np.diff(bin_edges(num_ranks, size)) / num_ranks
    tail = (1 - probability) / 2
    low, high = (np.asarray(stats.binom.ppf(p, size, shares), int) for p in (tail, 1 - tail))
    return low, high


def resampled_shares(
    ranks: Int[Array, " simulation"],
    edges: Int[Array, " edge"],
    probability: float = 0.95,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[Float[Array, " edge"], Float[Array, " edge"]]:
    """Bootstrap interval of the share of ranks below each edge.

    Args:
        ranks: Whole numbers.
        edges: Ranks below which are counted.
        probability: Of each interval.
        num_resamples: Resampled sets of ranks.
        seed: Of the resampling.
    """
    size = len(ranks)
    cells = np.diff([0, *np.searchsorted(np.sort(ranks), edges, side="left"), size]) / size
    rng = np.random.default_rng(seed)
    shares = rng.multinomial(size, cells, num_resamples).cumsum(1)[:, :-1] / size
    tail = (1 - probability) / 2
    low, high = np.quantile(shares, [tail, 1 - tail], axis=0)
    return low, high
