"""Do several runs of one model give the same latent codes, and if not, what sets them apart?

Every pair of runs is compared on the ladder of :mod:`pyrolvm.identifiability`. Runs whose bound is
clearly worse than the best one have failed to optimise; they say nothing of what the model
identifies, and do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyrolvm.core import Data, DataError, mean_over_data
from pyrolvm.core.errors import SettingError, require_at_least, require_seed
from pyrolvm.identifiability import LADDER, Interval, raw_r2, with_interval
from pyrolvm.inference.agreement_report import TRUTH, RunFacts, RunsAgreement
from pyrolvm.inference.run_codes import RunCodes, run_codes, run_distances
from pyrolvm.inference.runs_rhat import checked, runs_rhat

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunsAgreement", "compare_runs"]

FEWEST_DISTANCES = 8
"""Distances of which practically no bootstrap sample is one distance over and over."""
ONE_WAY = frozenset({"signed_correlation", "mcc", "mcc_spearman"})
"""Figures that do not change when two sets of codes change places."""


def compare_runs(
    fits: Sequence[Any] | Mapping[str, Any],
    x: Any,
    truth: Tensor | None = None,
    *,
    best: int | None = None,
    slack: float = 0.5,
    num_draws: int = 100,
    num_resamples: int = 200,
    num_distances: int = 32,
    site: str | None = None,
    seed: int = 0,
) -> RunsAgreement:
    """Measure how far the latent codes of several runs agree, without and with alignment.

    A code is the mean of the guide's draws for a datum, or the exact code where the model has one.
    Figures that depend on which run is the reference are those of the worse direction.

    Args:
        fits: At least two runs, by name or in a row: what ``fit`` returns, pairs (model, guide),
            or models with exact codes.
        x: Data that all of them observe, best held out: a tensor, or a mapping from argument name
            to tensor such as ``{"x": x, "u": u}``.
        truth: True codes, shape ``(N, D)``, where they are known; they are then the reference.
        best: Use so many runs with the highest bound only; all where it is None.
        slack: Nats per datum by which a bound may be below the best one; beyond, the run counts as
            a failure of optimisation and is not used.
        num_draws: Draws of a guide for each datum.
        num_resamples: Bootstrap samples of an interval.
        num_distances: Pairs of data whose distances are compared, at least 8; 0 for none.
        site: Name of the latent site, where there are several.
        seed: Of draws (others for every run), bootstrap and pairs of data.

    Returns:
        The ladder for every pair of runs, and what it shows.

    Raises:
        SettingError: If a number makes no sense.
        DataError: If there are fewer than two runs, the truth has another shape than the codes, or
            codes of a run cannot be compared.
        IncompatiblePairError: If a run is none of those above.

    >>> from pyrolvm import models, guides
    >>> model = models.LinearGaussian(1, 3)
    >>> same = compare_runs([(model, guides.Exact(model))] * 2, model(size=50).detach())
    >>> same.kind
    'identified'
    """
    named = dict(fits) if isinstance(fits, Mapping) else _numbered(fits)
    _refuse_settings(named, best, slack, num_distances)
    require_seed(seed)
    rows = Data.of(x)
    codes = {
        name: run_codes(run, rows, num_draws=num_draws, seed=seed + number, site=site)
        for number, (name, run) in enumerate(named.items())
    }
    facts = _facts(codes, best, slack)
    used = [fact.name for fact in facts if fact.used]
    references = {name: each.z for name, each in codes.items()}
    if truth is not None:
        references = {TRUTH: torch.as_tensor(truth).double().cpu()} | references
    frame = _frame(references, used, num_resamples, seed)
    if num_distances:
        distances = _distances(codes, rows.num_rows, num_distances, seed)
        frame = _appended(frame, distances, used, num_resamples, seed)
    reports = {name: checked(each.model) for name, each in codes.items()}
    rhat, reason = runs_rhat([codes[name] for name in used], [reports[name] for name in used])
    return RunsAgreement(facts, frame, reports[facts[0].name], rhat, reason)


def _numbered(fits: Sequence[Any]) -> dict[str, Any]:
    if not isinstance(fits, Sequence):
        raise DataError(
            "compare_runs needs a sequence of runs, or a mapping from name to run, but got a "
            f"single {type(fits).__name__}. Train the model again with another seed."
        )
    return {f"run {number}": run for number, run in enumerate(fits, 1)}


def _refuse_settings(
    named: Mapping[str, Any], best: int | None, slack: float, num_distances: int
) -> None:
    if len(named) < 2:
        raise DataError(
            f"compare_runs needs at least two runs, but got {len(named)}. Train the model again "
            "with another seed."
        )
    if TRUTH in named:
        raise SettingError(f"{TRUTH!r} names the true codes; give that run another name.")
    if num_distances != 0 and num_distances < FEWEST_DISTANCES:
        raise SettingError(
            f"num_distances should be 0 (no distances) or at least {FEWEST_DISTANCES}, which a "
            f"bootstrap needs, but it is {num_distances}."
        )
    if best is not None:
        require_at_least(2, best=best)
    if not slack > 0:
        raise SettingError(f"slack should be a positive number of nats, but it is {slack}.")


def _facts(codes: Mapping[str, RunCodes], best: int | None, slack: float) -> tuple[RunFacts, ...]:
    """Rank the runs by their bound, best first."""
    order = sorted(codes, key=lambda name: -codes[name].elbo.mean().item())
    top = codes[order[0]].elbo
    facts = []
    for rank, name in enumerate(order, 1):
        behind = mean_over_data(top - codes[name].elbo, "below the best run")
        failed = behind.value > slack
        used = not failed and (best is None or rank <= best)
        elbo = mean_over_data(codes[name].elbo)
        facts.append(RunFacts(name, rank, elbo, behind, failed, used))
    return tuple(facts)


def _frame(
    references: Mapping[str, Tensor], used: Sequence[str], num_resamples: int, seed: int
) -> pd.DataFrame:
    """Make one row for each pair and figure; the truth, where it is given, comes first."""
    import pandas as pd

    names = list(references)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    rows = []
    for a, b in pairs:
        for key in LADDER:
            try:
                found = _both_ways(key, references[a], references[b], a, num_resamples, seed)
            except DataError as error:
                raise DataError(f"{a} (z) and {b} (z_hat) cannot be compared. {error}") from error
            rows.append(_row(a, b, key, found, used))
    return pd.DataFrame(rows)


def _both_ways(
    key: str, a: Tensor, b: Tensor, reference: str, num_resamples: int, seed: int
) -> Interval:
    """Figure of a pair, with its interval; of two runs that of the worse direction."""
    found = with_interval(LADDER[key], a, b, num_resamples=num_resamples, seed=seed)
    if reference == TRUTH or key in ONE_WAY:
        return found
    other = with_interval(LADDER[key], b, a, num_resamples=num_resamples, seed=seed)
    return min(found, other, key=lambda interval: interval.value)


def _row(a: str, b: str, key: str, found: Interval, used: Sequence[str]) -> dict[str, Any]:
    return {
        "run_a": a, "run_b": b, "metric": key,
        "value": found.value, "low": found.low, "high": found.high,
        "used": b in used and (a in used or a == TRUTH),
    }  # fmt: skip


def _distances(
    codes: Mapping[str, RunCodes], num_rows: int, number: int, seed: int
) -> dict[str, dict[str, Tensor]]:
    """Distances of the same pairs of data in all runs, by kind and run; kinds that all have."""
    random = torch.Generator().manual_seed(seed)
    first = torch.randint(num_rows, (number,), generator=random)
    step = torch.randint(1, max(num_rows, 2), (number,), generator=random)
    pairs = torch.stack([first, (first + step) % num_rows], -1)
    found = {name: run_distances(each, pairs) for name, each in codes.items()}
    kinds: dict[str, dict[str, Tensor]] = {}
    for place, kind in enumerate(("euclidean_distances", "pullback_distances")):
        of_runs = {name: each[place] for name, each in found.items()}
        known = {name: d[:, None] for name, d in of_runs.items() if d is not None}
        if len(known) == len(of_runs):
            kinds[kind] = known
    return kinds


def _appended(
    frame: pd.DataFrame,
    distances: Mapping[str, Mapping[str, Tensor]],
    used: Sequence[str],
    num_resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Add how far runs agree about distances: their R², bootstrapped over pairs of data."""
    import pandas as pd

    rows = []
    for kind, of_runs in distances.items():
        names = list(of_runs)
        for a, b in ((a, b) for i, a in enumerate(names) for b in names[i + 1 :]):
            ways = ((of_runs[a], of_runs[b]), (of_runs[b], of_runs[a]))
            found = [
                with_interval(raw_r2, *way, num_resamples=num_resamples, seed=seed) for way in ways
            ]
            rows.append(_row(a, b, kind, min(found, key=lambda each: each.value), used))
    return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)
