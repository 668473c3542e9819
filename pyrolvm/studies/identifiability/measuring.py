"""Measure a cell: what theory says of its model, and how far its runs agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyrolvm.inference.agreement_report import TRUTH, RunsAgreement
from pyrolvm.inference.run_codes import run_codes
from pyrolvm.inference.runs_agreement import compare_runs
from pyrolvm.studies.identifiability.cells import Cell
from pyrolvm.studies.identifiability.training import Run
from pyrolvm.studies.identifiability.worlds import StudySettings, World

if TYPE_CHECKING:
    import pandas as pd

SIGN_RULE = "cov(x₁, z) > 0"


@dataclass(frozen=True)
class Measured:
    """What was measured of a cell.

    Args:
        row: Its row of the table.
        runs: Facts of each run, the best first.
        ladder: Agreement of all pairs, as ``RunsAgreement.frame``.
        codes: Codes of the rows held out, by run, and the true ones.
    """

    row: dict[str, Any]
    runs: list[dict[str, Any]]
    ladder: pd.DataFrame
    codes: dict[str, Tensor]


def measured(cell: Cell, world: World, runs: Sequence[Run], settings: StudySettings) -> Measured:
    """Compare the runs of a cell on the rows held out."""
    named = {f"seed {run.seed}": run for run in runs}
    agreement = compare_runs(
        named,
        world.test,
        world.truth,
        best=settings.best,
        slack=settings.slack,
        num_draws=settings.num_draws,
        num_resamples=settings.num_resamples,
        num_distances=settings.num_distances,
    )
    return Measured(
        {"cell": cell.key, "experiment": cell.experiment, "title": cell.title}
        | _theory(cell, agreement)
        | _bounds(agreement)
        | _agreement(agreement)
        | {"seconds": sum(run.seconds for run in runs) / len(runs)},
        _runs(cell, agreement, named),
        agreement.frame,
        _codes(named, world, settings),
    )


def _theory(cell: Cell, agreement: RunsAgreement) -> dict[str, Any]:
    """What ``check`` says of the best run, and whether it means that runs agree as they stand."""
    report = agreement.check
    assert report is not None
    rule = SIGN_RULE if cell.turns else ""
    return {
        "level": report.level,
        "symmetries": "; ".join(report.symmetries),
        "rule": rule,
        "should_agree": report.is_strong or (report.level == "up to signs" and bool(rule)),
    }


def _bounds(agreement: RunsAgreement) -> dict[str, Any]:
    """Bounds of the runs, best first; of exact codes these are log likelihoods."""
    used = [run.elbo.value for run in agreement.runs if run.used]
    return {
        "runs": len(agreement.runs),
        "used": len(used),
        "failed": sum(run.failed for run in agreement.runs),
        "bound_best": used[0],
        "bound_worst_used": used[-1],
        "bound_worst": agreement.runs[-1].elbo.value,
        "kind": agreement.kind,
    }


def _agreement(agreement: RunsAgreement) -> dict[str, Any]:
    """Mean and lowest pair on every rung, the interval of that pair, and means to the truth."""
    found: dict[str, Any] = {}
    used = agreement.frame[agreement.frame["used"]]
    pairs, against = used[used["run_a"] != TRUTH], used[used["run_a"] == TRUTH]
    for metric, part in pairs.groupby("metric", sort=False):
        lowest = part.sort_values("value").iloc[0]
        found[f"{metric}_mean"] = float(part["value"].mean())
        for end, column in (("min", "value"), ("low", "low"), ("high", "high")):
            found[f"{metric}_{end}"] = float(lowest[column])
    for metric, part in against.groupby("metric", sort=False):
        found[f"truth_{metric}"] = float(part["value"].mean())
    rhat = agreement.rhat
    found["rhat_median"] = None if rhat is None else float(rhat.median())
    found["rhat_reason"] = agreement.rhat_reason
    return found


def _runs(cell: Cell, agreement: RunsAgreement, named: Mapping[str, Run]) -> list[dict[str, Any]]:
    return [
        {
            "cell": cell.key,
            "seed": named[run.name].seed,
            "rank": run.rank,
            "bound": run.elbo.value,
            "bound_se": run.elbo.standard_error,
            "behind": run.behind.value,
            "used": run.used,
            "failed": run.failed,
            "seconds": named[run.name].seconds,
        }
        for run in agreement.runs
    ]


def _codes(named: Mapping[str, Run], world: World, settings: StudySettings) -> dict[str, Tensor]:
    known = {} if world.truth is None else {TRUTH: torch.as_tensor(world.truth)}
    return known | {
        name: run_codes(run, world.test, num_draws=settings.num_draws, seed=number, site=None).z
        for number, (name, run) in enumerate(named.items())
    }
