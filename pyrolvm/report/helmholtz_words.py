"""What the study of belief networks says, in plain words: generated from its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyrolvm.inference.helmholtz import OBJECTIVES, HelmholtzStudy
from pyrolvm.inference.helmholtz.objectives import COUPLED, REWEIGHTED
from pyrolvm.plots.quantities import fixed, number, with_error

if TYPE_CHECKING:
    import pandas as pd

SURE = 2
"""Standard errors beyond which a difference is called one."""
FEW_DRAWS = 0.01
"""Effective share of draws below which an estimate of log p(x) rests on a handful of them."""


def headline(study: HelmholtzStudy) -> str:
    """The answer in one sentence, whichever way it comes out."""
    pairs = study.differences[study.differences["objective"] == COUPLED]
    if not len(pairs):
        return (
            "Whether the coupled objective brings guide and posterior closer is open here: it "
            "takes trainings by both, coupled and rws, on the same data."
        )
    closer, farther, _ = _verdicts(pairs, "bc2")
    worse, better, alike = _verdicts(pairs, "nll")
    sets = [str(data) for data in pairs["data"]]
    coupled = [f"{_overlap(study.frame, data, COUPLED)} on {data}" for data in sets]
    other = [_overlap(study.frame, data, REWEIGHTED) for data in sets]
    said = (
        f"The coupled guide overlaps the posterior at BC² {_listed(coupled)}, where reweighted "
        f"wake-sleep's overlaps at {_listed(other)}"
    )
    if len(closer) < len(sets):
        said += f": more on {len(closer)} of {len(sets)}, less on {len(farther)}"
    parts = [
        f"{word} on {_listed(named)}"
        for word, named in (("lower", better), ("no different", alike), ("higher", worse))
        if named
    ]
    most = number(float(pairs["nll"].abs().max()), 2)
    return f"{said}. Its −log p(x) is {', '.join(parts)} (differences up to {most} nats)."


def findings(study: HelmholtzStudy) -> list[str]:
    """What was found: a sentence for each data set, then for depth."""
    found = [_data_finding(study, data) for data in study.frame["data"].unique()]
    found += _depth_findings(study.frame)
    return found


def caveats(study: HelmholtzStudy) -> list[str]:
    """How to read the figures, and where not to trust them."""
    frame = study.frame
    particles, seeds = int(frame["particles"].max()), frame["seed"].nunique()
    notes = [
        f"−log p(x) is estimated from {particles:,} draws of each model's own guide and is an "
        "upper bound on average; its bias falls with the number of draws, and faster where the "
        "guide is good. Where method says exact, all states were summed.",
        "−log p*(x) is the estimate of −log p~*(x) less that of −2 log Z. Both are too large on "
        "average, so that their difference is no strict bound. Its standard error includes that "
        "of Z.",
        "The effective share of draws stands in two columns for all models, because its size "
        "depends on the weights: √w = √(p/q) belong to p*, w = p/q to p, and the same guide has a "
        "much larger share under √w. Compare within a column. The share under √w estimates BC² "
        "from the same draws, from above: it cannot see what the guide never draws. Z² is the "
        "mean of BC² over draws of the model instead of test rows, and needs no log p(x).",
        _seed_note(seeds),
    ]
    few = frame[(frame["ess"] < FEW_DRAWS) & (frame["method"] != "exact")]
    if len(few):
        notes.append(
            f"In {len(few)} of {len(frame)} cells fewer than 1 % of the draws are effective under "
            f"w, at worst {number(100 * float(few['ess'].min()), 2)} %: their log p(x) is "
            "underestimated, and their BC² overestimated."
        )
    rounding = float(frame["rounding"].max())
    notes.append(
        "Test rows are scored in single precision; against double precision the same draws differ "
        f"by at most {number(rounding, 2)} nats."
    )
    return notes


def _verdicts(pairs: pd.DataFrame, name: str) -> tuple[list[str], list[str], list[str]]:
    """Data sets on which a difference is surely above 0, surely below, and neither."""
    above: list[str] = []
    below: list[str] = []
    neither: list[str] = []
    for _, row in pairs.iterrows():
        error = SURE * row[f"{name}_se"]
        place = above if row[name] > error else below if row[name] < -error else neither
        place.append(str(row["data"]))
    return above, below, neither


def _data_finding(study: HelmholtzStudy, data: str) -> str:
    own = study.frame[(study.frame["data"] == data) & study.frame["in_table"]]
    means = own.groupby("objective")[["nll", "bc2", "pstar_nll", "log_z"]].mean()
    best, closest = str(means["nll"].idxmin()), str(means["bc2"].idxmax())
    said = (
        f"{data}: the lowest −log p(x) is {fixed(float(means['nll'].min()), 2)} nats "
        f"({OBJECTIVES[best].title}), the largest BC² {fixed(float(means['bc2'].max()), 3)} "
        f"({OBJECTIVES[closest].title})."
    )
    pairs = study.differences
    pair = pairs[(pairs["data"] == data) & (pairs["objective"] == COUPLED)]
    if len(pair):
        row = pair.iloc[0]
        said += (
            " Coupled less reweighted wake-sleep, paired over rows: −log p(x) "
            f"{with_error(row['nll'], row['nll_se'])} nats, BC² "
            f"{with_error(row['bc2'], row['bc2_se'])}."
        )
    return said


def _depth_findings(frame: pd.DataFrame) -> list[str]:
    swept = frame[frame["in_sweep"]]
    found = []
    for data in swept["data"].unique():
        parts = []
        own = swept[swept["data"] == data]
        for key in (key for key in OBJECTIVES if key in set(own["objective"])):
            means = own[own["objective"] == key].groupby("num_layers")["nll"].mean()
            parts.append(
                f"{OBJECTIVES[key].title} is best with {_layers(int(means.idxmin()))} "
                f"({fixed(float(means.min()), 2)} nats)"
            )
        depths = ", ".join(map(str, sorted(own["num_layers"].unique())))
        found.append(f"{data}, of {depths} layers: {'; '.join(parts)}.")
    return found


def _overlap(frame: pd.DataFrame, data: str, objective: str) -> str:
    own = frame[(frame["data"] == data) & (frame["objective"] == objective) & frame["in_table"]]
    return fixed(float(own["bc2"].mean()), 3)


def _listed(parts: Sequence[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _layers(count: int) -> str:
    return "one layer" if count == 1 else f"{count} layers"


def _seed_note(seeds: int) -> str:
    if seeds == 1:
        return (
            "One seed only: standard errors are over test rows, and say nothing of what another "
            "start of training would have given."
        )
    return (
        f"{seeds} seeds: the table shows means over seeds with the standard error over test rows; "
        "paired differences include the spread over seeds."
    )
