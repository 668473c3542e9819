"""What a fitted model predicts, against what was observed: checks, leave-one-out, and PIT.

Three sources of predictions: the guide's draws as they are; the same weighted to the posterior,
which tells the model's fault from the guide's; and the prior, which no guide has a part in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.importance import khat_threshold
from pyrolvm.diagnostics.predictive_checks import Array, predictive_p_values

if TYPE_CHECKING:
    import xarray as xr

MOST_DRAWS = 1000
"""Replicated statistics that a data set keeps for its picture."""


@dataclass(frozen=True)
class Checks:
    """Test statistics of the data and of K replications of one source.

    Args:
        observed: Shape ``(T,)``.
        replicated: Shape ``(K, T)``.
        effective_draws: How many independent draws the replications are worth.
    """

    observed: Array
    replicated: Array
    effective_draws: float

    @property
    def p_values(self) -> Array:
        """Two-sided, shape ``(T,)``."""
        return predictive_p_values(self.observed, self.replicated, self.effective_draws)[0]

    @property
    def errors(self) -> Array:
        """Monte Carlo errors of the p-values, shape ``(T,)``."""
        return predictive_p_values(self.observed, self.replicated, self.effective_draws)[1]


@dataclass(frozen=True)
class LeaveOneOut:
    """Expected log predictive density of each observation without it, in nats.

    Args:
        elpd: Of the posterior, shape ``(U,)``.
        elpd_se: Monte Carlo errors, shape ``(U,)``; NaN where not known.
        pareto_k: How far ``elpd`` can be relied on, shape ``(U,)``.
        guide_elpd: With the guide's draws taken for the posterior's, shape ``(U,)``.
        guide_pareto_k: Likewise.
        method: ``"evidence of each datum: …"``, or ``"PSIS, corrected for the guide"``.
    """

    elpd: Array
    elpd_se: Array
    pareto_k: Array
    guide_elpd: Array
    guide_pareto_k: Array
    method: str

    @property
    def total(self) -> float:
        """Sum over observations."""
        return float(self.elpd.sum())

    @property
    def standard_error(self) -> float:
        """Error of the sum as an estimate for as many new observations; NaN for a single one."""
        return (
            float(np.sqrt(self.elpd.size) * self.elpd.std(ddof=1))
            if self.elpd.size > 1
            else np.nan
        )

    @property
    def excess(self) -> float:
        """By how many nats the guide's draws, taken for the posterior's, misstate the sum."""
        return float((self.guide_elpd - self.elpd).sum())


@dataclass(frozen=True)
class Prediction:
    """Predictive checks of a pair.

    Args:
        statistics: Names of the T test statistics, with the site where there are several.
        guide: From the guide's draws.
        posterior: From these weighted to the posterior.
        prior: From the prior; None where it cannot be drawn from.
        loo: Leave-one-out; None where the observations have no densities of their own.
        pit: Leave-one-out PIT of each scalar observation, shape ``(R,)``; None where rows are
            vectors or there is a single one.
        row_statistics: Names of the statistics of single rows; empty for short rows.
        row_p_values: From the guide's draws, shape ``(T', R)``.
        factorises: Whether each datum has a posterior of its own.
        reliable: Whether the weights can take the guide's draws to the posterior.
        num_draws: Draws K.
        missing: Why a part is missing, by its name.
    """

    statistics: tuple[str, ...]
    guide: Checks
    posterior: Checks
    prior: Checks | None
    loo: LeaveOneOut | None
    pit: Array | None
    row_statistics: tuple[str, ...]
    row_p_values: Array
    factorises: bool
    reliable: bool
    num_draws: int
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def khat_threshold(self) -> float:
        """Largest Pareto k at which this many draws give a usable leave-one-out figure."""
        return khat_threshold(self.num_draws)

    def findings(self) -> tuple[Finding, ...]:
        """Judge the predictions; the model is at fault where the posterior's miss as well."""
        from pyrolvm.diagnostics.prediction_findings import judge_prediction

        return judge_prediction(self)

    def dataset(self) -> xr.Dataset:
        """p-values by ``statistic``, replicated statistics, leave-one-out figures, PIT.

        Leave-one-out figures lie along ``datum`` where each datum has a posterior of its own, and
        along ``observation`` elsewhere; the PIT along ``pit_observation``.
        """
        import xarray as xr

        variables: dict[str, tuple[tuple[str, ...], Array]] = {
            "observed_statistic": (("statistic",), self.guide.observed)
        }
        for source in ("guide", "posterior", "prior"):
            checks = getattr(self, source)
            if checks is not None:
                kept = checks.replicated[:MOST_DRAWS]
                variables[f"{source}_statistic"] = ((f"{source}_draw", "statistic"), kept)
                variables[f"{source}_p_value"] = (("statistic",), checks.p_values)
                variables[f"{source}_p_value_se"] = (("statistic",), checks.errors)
        if self.loo is not None:
            unit = ("datum" if self.factorises else "observation",)
            variables |= {
                "elpd_loo": (unit, self.loo.elpd),
                "elpd_loo_se": (unit, self.loo.elpd_se),
                "pareto_k": (unit, self.loo.pareto_k),
                "guide_elpd_loo": (unit, self.loo.guide_elpd),
                "guide_pareto_k": (unit, self.loo.guide_pareto_k),
            }
        if self.pit is not None:
            variables["pit"] = (("pit_observation",), self.pit)
        if self.row_statistics:
            variables["row_p_value"] = (("row_statistic", "row"), self.row_p_values)
        coords = {"statistic": list(self.statistics)}
        if self.row_statistics:
            coords["row_statistic"] = list(self.row_statistics)
        return xr.Dataset(variables, coords, attrs=self._attrs())

    def _attrs(self) -> dict[str, object]:
        attrs: dict[str, object] = {
            "num_draws": self.num_draws,
            "khat_threshold": self.khat_threshold,
            "weights_reliable": int(self.reliable),
            "factorises": int(self.factorises),
        }
        if self.loo is not None:
            attrs |= {
                "loo_method": self.loo.method,
                "elpd_total": self.loo.total,
                "elpd_se": self.loo.standard_error,
                "guide_elpd_total": float(self.loo.guide_elpd.sum()),
                "unit": "nats",
            }
        return attrs | {f"missing_{part}": reason for part, reason in self.missing.items()}
