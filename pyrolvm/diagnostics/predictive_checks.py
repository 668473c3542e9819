r"""Predictive checks: do new data from the model look like the data?

.. math:: p = 2 \min\{\Pr(T(\tilde x) \ge T(x)), \Pr(T(\tilde x) \le T(x))\}

for test statistics T that a person would look at: mean, spread, extremes, quantiles, shares.
Because the data have been used already, p-values of posterior predictions are not uniform for a
right model: they crowd around one half, so that a small one means more than it says.

References:
    Gelman, Meng & Stern (1996), Posterior Predictive Assessment of Model Fitness, Statistica
    Sinica 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pyrolvm.diagnostics.importance import SHORTEST_TAIL, tail_length
from pyrolvm.diagnostics.pareto import fit_generalized_pareto

Array: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["real", "count", "binary", "category"]
"""What an observed site takes: real numbers, counts, zeros and ones, or labels."""

MOST_LABELS = 8
ROW_ENTRIES = 4
"""Entries of a row from which it has statistics of its own."""

Statistic: TypeAlias = Callable[[Array], Array]


def _share(label: float) -> Statistic:
    return lambda values: (values == label).mean(-1)


_MEAN: dict[str, Statistic] = {"mean": lambda values: values.mean(-1)}
_SD: dict[str, Statistic] = {"sd": lambda values: values.std(-1)}
_ENDS: dict[str, Statistic] = {
    "min": lambda values: values.min(-1),
    "max": lambda values: values.max(-1),
}
_QUANTILES = {"5 % quantile": 0.05, "median": 0.5, "95 % quantile": 0.95}
_OF_KIND: dict[Kind, dict[str, Statistic]] = {
    "real": {**_MEAN, **_SD, **_ENDS},
    "count": {**_MEAN, **_SD, "max": _ENDS["max"], "share of zeros": _share(0.0)},
    "binary": _MEAN,
    "category": {},
}
_OF_ROWS: dict[Kind, dict[str, Statistic]] = {
    "real": {**_MEAN, **_SD, **_ENDS},
    "count": {**_MEAN, **_SD, "share of zeros": _share(0.0)},
    "binary": _MEAN,
    "category": {},
}


class TestStatistics:
    """Test statistics of one observed site, fixed by what was observed.

    Args:
        observed: Shape ``(R, E)``: rows, and the entries of each.
        kind: What the site takes.
        keeps: Which entries count, shape ``(R, E)``; None for all.
    """

    __test__ = False  # no test of pytest's

    def __init__(
        self, observed: Array, kind: Kind, keeps: NDArray[np.bool_] | None = None
    ) -> None:
        self._keeps = keeps
        rows, entries = observed.shape
        self._pooled = dict(_OF_KIND[kind])
        if kind == "category":
            labels = np.unique(self._kept(observed[None]))[:MOST_LABELS]
            self._pooled = {f"share of {label:g}": _share(label) for label in labels}
        self._quantiles = _QUANTILES if kind == "real" else {}
        self._between = rows > 1 and entries > 1 and kind != "category" and keeps is None
        self._by_row = _OF_ROWS[kind] if entries >= ROW_ENTRIES and keeps is None else {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the statistics of the whole data set."""
        between = ("sd of row means",) if self._between else ()
        return (*self._pooled, *self._quantiles, *between)

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of the statistics of each row; none where rows are short or masked."""
        return tuple(self._by_row)

    def pooled(self, values: Array) -> Array:
        """Statistics of data sets.

        Args:
            values: Shape ``(K, R, E)``.

        Returns:
            Shape ``(K, T)``, as :attr:`names` has them.
        """
        cells = self._kept(values)
        columns = [statistic(cells) for statistic in self._pooled.values()]
        if self._quantiles:
            columns += list(np.quantile(cells, [*self._quantiles.values()], axis=-1))
        if self._between:
            columns.append(values.mean(-1).std(-1))
        return np.stack(columns, -1)

    def of_rows(self, values: Array) -> Array:
        """Statistics of each row, shape ``(K, R, T)``, as :attr:`row_names` has them."""
        if not self._by_row:
            return np.empty((*values.shape[:2], 0))
        return np.stack([statistic(values) for statistic in self._by_row.values()], -1)

    def _kept(self, values: Array) -> Array:
        return values.reshape(len(values), -1) if self._keeps is None else values[:, self._keeps]


def predictive_p_values(
    observed: Array, replicated: Array, effective_draws: float | None = None
) -> tuple[Array, Array]:
    """Two-sided predictive p-values and their Monte Carlo errors.

    Ties count one half, and half a draw is added on each side. Where the observation lies beyond
    all replications, the p-value is that of the generalised Pareto tail fitted to the largest of
    them, if this is smaller: else a thousand draws could not convict a model of one miss in many.

    Args:
        observed: Statistics of the data, any shape.
        replicated: The same of K replications, shape ``(K, ...)``.
        effective_draws: How many independent draws the replications are worth; K where None.

    Returns:
        p-values between 0 and 1 and standard errors, of the shape of ``observed``.

    Examples:
        >>> p, error = predictive_p_values(np.array([0.0, 9.0]), np.arange(-5.0, 5.0)[:, None])
        >>> p.round(3).tolist(), error.round(2).tolist()
        ([0.909, 0.091], [0.31, 0.13])
    """
    size = float(effective_draws or len(replicated))
    equal = np.isclose(replicated, observed, rtol=1e-9, atol=0.0)
    above = ((replicated > observed) & ~equal).mean(0) + 0.5 * equal.mean(0)
    beyond = (above == 0.0) | (above == 1.0)
    above = (size * above + 0.5) / (size + 1)
    p_values = np.asarray(np.minimum(1.0, 2 * np.minimum(above, 1 - above)))
    if beyond.any() and tail_length(len(replicated)) >= SHORTEST_TAIL:
        data, draws = np.atleast_1d(observed)[..., None], np.moveaxis(replicated, 0, -1)
        sign = np.sign(data - draws.mean(-1, keepdims=True))
        outside = np.atleast_1d(beyond)
        in_tail = 2 * _beyond((sign * data)[outside], np.atleast_2d(sign * draws)[outside])
        p_values[beyond] = np.minimum(p_values[beyond], in_tail)
    return p_values, 2 * np.sqrt(above * (1 - above) / size)


def _beyond(observed: Array, draws: Array) -> Array:
    """Probability of more than the observed value, from the upper tail of draws, one a row.

    Args:
        observed: Shape ``(B, 1)``.
        draws: Shape ``(B, K)``.
    """
    number = draws.shape[1]
    length = tail_length(number)
    ordered = np.sort(draws, axis=1)[:, -length - 1 :]
    cutoff, exceedances = ordered[:, :1], ordered[:, 1:] - ordered[:, :1]
    counts = (exceedances > 0).sum(1)
    fitted = fit_generalized_pareto(
        torch.from_numpy(exceedances), torch.from_numpy(np.maximum(counts, 1))
    )
    shape, scale = (each.numpy() for each in fitted)
    with np.errstate(all="ignore"):
        inside = np.maximum(1 + shape * (observed - cutoff)[:, 0] / scale, 0.0)
        tail = counts / number * inside ** (-1 / shape)
    return np.where((counts >= SHORTEST_TAIL) & np.isfinite(tail), tail, 1.0)


def smallest_p(p_values: Iterable[float]) -> float:
    """Smallest p-value, corrected for how many there are (Bonferroni); 1 for none.

    Examples:
        >>> smallest_p([0.5, 0.01, 0.2])
        0.03
    """
    values = list(p_values)
    return min(1.0, len(values) * min(values, default=1.0))
