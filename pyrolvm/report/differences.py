"""How much further off one guide is than another, datum by datum, and which is nearest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyrolvm.plots.comparison import ZERO_GAP, ComparisonView
from pyrolvm.plots.quantities import with_error

CLEAR = 2.0
"""Standard errors that make a difference."""


@dataclass(frozen=True)
class Difference:
    """How much further off one guide is than another, nats a datum.

    Args:
        value: Mean difference.
        standard_error: Of that mean; not finite where it is unknown.
    """

    value: float
    standard_error: float

    @property
    def is_clear(self) -> bool:
        """Whether it is more than two standard errors away from 0, as far as these are known."""
        return abs(self.value) > max(CLEAR * known(self.standard_error), ZERO_GAP)

    def __str__(self) -> str:
        return with_error(self.value, self.standard_error)


def difference(
    comparison: ComparisonView, worse: str, better: str, quantity: str = "gap"
) -> Difference:
    """Mean difference of two guides' gaps, paired datum by datum where the tree has them.

    Args:
        comparison: The comparison.
        worse: The guide that is further off.
        better: The other one.
        quantity: ``"gap"``, or ``"elbo"`` for the loss in the bound.

    Returns:
        How much further off ``worse`` is.
    """
    turn = -1.0 if quantity == "elbo" else 1.0
    first, second = (comparison.per_datum(name, quantity) for name in (worse, better))
    value = turn * (comparison.cell(quantity, worse) - comparison.cell(quantity, better))
    if first is None or second is None or first.shape != second.shape:
        errors = [known(comparison.cell(f"{quantity}_se", name)) for name in (worse, better)]
        return Difference(value, math.hypot(*errors))
    return Difference(value, paired_error(first - second))


def paired_error(values: NDArray[np.float64]) -> float:
    """Standard error of a mean over data, from the finite values; infinite for fewer than two."""
    finite = values[np.isfinite(values)]
    return float(np.std(finite, ddof=1) / math.sqrt(finite.size)) if finite.size > 1 else math.inf


def known(error: float) -> float:
    """A standard error, or 0 where there is none, as with a single datum."""
    return error if math.isfinite(error) else 0.0


def ranking_quantity(comparison: ComparisonView) -> str:
    """What guides are ranked by.

    The gap; or the ELBO, where the evidence is only a bound and not the same one for all guides:
    two lower bounds of gaps cannot be ranked.
    """
    evidence = comparison.column("log_evidence")
    same = bool(np.ptp(evidence) < ZERO_GAP) if np.all(np.isfinite(evidence)) else False
    return "elbo" if comparison.is_bound and not same else "gap"


def nearest(comparison: ComparisonView, names: list[str]) -> str:
    """The guide with the smallest gap (or the highest ELBO) among some."""
    quantity = ranking_quantity(comparison)
    turn = -1.0 if quantity == "elbo" else 1.0
    scores = {name: turn * comparison.cell(quantity, name) for name in names}
    return min(names, key=lambda name: scores[name] if math.isfinite(scores[name]) else math.inf)
