"""What comparing the codes of several runs found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Estimate
from pyrolvm.identifiability import IdentifiabilityReport
from pyrolvm.identifiability.rungs import LADDER, NOTHING, Rung, lowest_rung

if TYPE_CHECKING:
    import pandas as pd

TRUTH = "truth"
"""Stands for the true codes among the names of runs."""


@dataclass(frozen=True)
class RunFacts:
    """How good one run is.

    Args:
        name: Of the run.
        rank: 1 for the highest bound.
        elbo: Its bound in nats per datum.
        behind: By how much it is below that of the best run, in nats per datum.
        failed: Whether that is more than the slack: a failure of optimisation.
        used: Whether the run counts in the verdict.
    """

    name: str
    rank: int
    elbo: Estimate
    behind: Estimate
    failed: bool
    used: bool


@dataclass(frozen=True)
class RunsAgreement:
    """How far the codes of several runs agree.

    Args:
        runs: The runs, the one with the highest bound first.
        frame: One row for each pair of runs and figure: ``run_a``, ``run_b`` (``"truth"`` for the
            true codes), ``metric``, ``value``, the ends ``low`` and ``high`` of its bootstrap
            interval, and whether both runs are ``used``.
        check: What the model identifies; None where it does not say.
        rhat: R-hat of draws with runs as chains, ``(n, D)`` for the first data; None where it
            would mean nothing.
        rhat_reason: Why R-hat is there, or is not.
    """

    runs: tuple[RunFacts, ...]
    frame: pd.DataFrame
    check: IdentifiabilityReport | None
    rhat: Float[Tensor, "data D"] | None
    rhat_reason: str

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair of runs, one column for each figure."""
        order = list(dict.fromkeys(self.frame["metric"]))
        keys = list(dict.fromkeys(zip(self.frame["run_a"], self.frame["run_b"], strict=True)))
        wide = self.frame.pivot_table(index=["run_a", "run_b"], columns="metric", values="value")
        return wide.loc[keys, order]

    @cached_property
    def lowest(self) -> dict[str, float]:
        """The lowest value of each figure over all pairs of used runs; empty without a pair."""
        kept = self.frame[self.frame["used"] & (self.frame["run_a"] != TRUTH)]
        return {
            str(name): float(value)
            for name, value in kept.groupby("metric")["value"].min().items()
        }

    @property
    def rung(self) -> Rung:
        """The smallest class of maps by which used runs differ."""
        return lowest_rung(self.lowest) if self.lowest else NOTHING

    @property
    def kind(self) -> str:
        """Name of that class: ``"identified"``, ``"signs"``, ..., ``"none"``; or ``"unknown"``."""
        return self.rung.kind if self.lowest else "unknown"

    @property
    def sentence(self) -> str:
        """Which class of indeterminacy the figures show, and which runs failed to optimise."""
        return " ".join(filter(None, (self._agreement(), self._failures(), self._against_check())))

    def _agreement(self) -> str:
        used = [run.name for run in self.runs if run.used]
        if not self.lowest:
            return f"Only {used[0]} is left, so that nothing can be said of identifiability."
        raw, matched = self.lowest["raw_r2"], self.lowest["mcc"]
        return (
            f"Over {len(used)} runs, {self.rung.sentence} (lowest raw R² {raw:.3f}, MCC "
            f"{matched:.3f})."
        )

    def _failures(self) -> str:
        failed = [run for run in self.runs if run.failed]
        if not failed:
            return ""
        names = ", ".join(f"{run.name} by {run.behind.value:.2f}" for run in failed)
        return (
            f"Left out are runs whose bound is below the best one ({names} nats): they failed to "
            "optimise, which says nothing of identifiability."
        )

    def _against_check(self) -> str:
        if self.check is None or not self.lowest:
            return ""
        if self.check.is_strong and self.kind != "identified":
            return (
                "The model is strongly identified in the population, so that these runs have not "
                "reached its optimum, or the data is too small."
            )
        if not self.check.is_strong and self.kind == "identified":
            return (
                f"The model is identified {self.check.level!r} only: that these runs agree is due "
                "to how they were started and trained."
            )
        return ""

    def __str__(self) -> str:
        """Return the verdict, the ladder and the runs."""
        lines = [self.sentence]
        lines += ["", "lowest over pairs of used runs:"] if self.lowest else []
        lines += [f"  {name:<20} {value:8.3f}" for name, value in self._ordered(self.lowest)]
        against = self.frame[self.frame["used"] & (self.frame["run_a"] == TRUTH)]
        if len(against):
            means = against.groupby("metric")["value"].mean()
            lines += ["", "mean against the truth:"]
            lines += [f"  {name:<20} {means[name]:8.3f}" for name in LADDER]
        lines += ["", "runs by bound, nats per datum:"]
        lines += [self._line(run) for run in self.runs]
        if self.rhat is None:
            lines += ["", self.rhat_reason]
        else:
            small = float((self.rhat < 1.01).double().mean())
            lines += ["", f"R-hat over runs: median {self.rhat.median():.3f}, "
                      f"{small:.0%} below 1.01"]  # fmt: skip
        return "\n".join(lines)

    def _ordered(self, values: dict[str, float]) -> list[tuple[str, float]]:
        return [
            (name, values[name]) for name in dict.fromkeys(self.frame["metric"]) if name in values
        ]

    @staticmethod
    def _line(run: RunFacts) -> str:
        word = (
            "failed to optimise" if run.failed else ("used" if run.used else "not among the best")
        )
        elbo = f"{run.elbo.value:.3f} ± {run.elbo.standard_error:.2g}"
        return f"  {run.rank}. {run.name:<12} {elbo:<18} {word}"
