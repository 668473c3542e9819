"""What the study of identifiability says, in plain words: generated from its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pyrolvm.identifiability.rungs import AGREE
from pyrolvm.plots.quantities import MISSING, fixed
from pyrolvm.studies.identifiability import IdentifiabilityStudy

DIFFER = 0.5
"""Mean raw R² below which runs plainly do not agree."""
EQUAL_LIKELIHOOD = 0.02
"""Nats per datum within which held-out likelihoods count as equal."""

Row = Mapping[str, Any]


def headline(study: IdentifiabilityStudy) -> str:
    """The answer in one sentence, or what keeps theory and runs apart."""
    strong, weak = _split(study)
    wrong = [*(row for row in strong if not agrees(row)), *(row for row in weak if agrees(row))]
    unclear = [row for row in weak if not agrees(row) and not row["raw_r2_mean"] < DIFFER]
    if not strong or not weak:
        return "Only one kind of model was run, so that there is nothing to compare."
    if wrong or unclear:
        named = "; ".join(
            f"{name(row)} (lowest raw R² {_three(row['raw_r2_min'])})"
            for row in [*wrong, *unclear]
        )
        return (
            f"Runs do not all do what theory says of their model: it fails or is not clear for "
            f"{named}. For the other {len(strong) + len(weak) - len(wrong) - len(unclear)} models "
            "it holds."
        )
    return (
        "Where the model leaves no symmetry open, its best runs give an observation the same "
        f"code, as it stands (lowest raw R² of two runs over {len(strong)} models: "
        f"{_three(min(row['raw_r2_min'] for row in strong))}); where it leaves one open, they do "
        f"not (highest mean raw R² over {len(weak)} models: "
        f"{_two(max(row['raw_r2_mean'] for row in weak))}), however well they fit, and however "
        f"high their MCC (up to {_three(max(row['mcc_min'] for row in weak))})."
    )


def findings(study: IdentifiabilityStudy) -> list[str]:
    """What each experiment found, with its numbers; one that was not run is left out."""
    rows = {row["cell"]: row for row in _rows(study)}
    said = [
        _flows(study, rows),
        _environments(rows),
        _curve(rows),
        _surface(rows),
    ]
    return [sentence for sentence in said if sentence]


def notes(study: IdentifiabilityStudy) -> list[str]:
    """How to read the numbers, and what to keep in mind."""
    settings, frame = study.settings, study.frame
    failed = int(frame["failed"].sum())
    left_out = int((frame["runs"] - frame["used"] - frame["failed"]).sum())
    alone = [name(row) for row in _rows(study) if not row["used"] > 1]
    rhat = frame["rhat_median"].dropna()
    said = [
        "Figures are those of two runs; of each model the mean over pairs, then the lowest pair. "
        "Of two directions the worse one counts. In brackets: 95 % bootstrap interval of the "
        f"lowest pair, over {settings.test_rows:,} held-out rows.",
        "Raw R² takes codes as they stand. Each further rung allows a larger class of maps before "
        "it compares: signs, order and scale, rotations, affine maps, any smooth map. The first "
        "rung at which runs agree names what the model leaves open.",
        "MCC pairs coordinates in their best order and takes absolute correlations: it is blind "
        "to sign, permutation and scale, and so cannot see most of what sets these models apart.",
        "Runs are ranked by their bound on held-out rows. One that is more than "
        f"{settings.slack:g} nats behind the best of its model counts as a failure of "
        f"optimisation, which says nothing of identifiability: {failed or 'none'} of "
        f"{len(study.runs)} did; {left_out or 'no'} more did not belong to the best "
        f"{settings.best}. Bounds compare runs of one model, and models of the same data.",
        "R-hat with runs as chains means something only where one code is right. It asks for more "
        "than equal codes: for differences well below the posterior's own width, which is small "
        "here, and of a guide that is itself an approximation."
        + (f" Its medians are {', '.join(_two(value) for value in rhat)}." if len(rhat) else ""),
        "What check says holds for the population and the optimum. Codes are relative to what was "
        "fixed: the priors, the order and the signs of the anchor outputs. The fixed priors here "
        "are those that made the data; real data offer no such luxury.",
        "Xi & Bloem-Reddy (2023) is a paper of theory: experiments and numbers are our own.",
    ]
    if alone:
        said.append(f"Too few runs are left to compare: {', '.join(alone)}.")
    return said


def agrees(row: Row) -> bool:
    """Whether every pair of runs agrees as it stands."""
    return bool(row["raw_r2_min"] >= AGREE)


def name(row: Row) -> str:
    """A cell as a reader calls it, also apart from its experiment."""
    return f"{row['title']} on the surface" if row["cell"] == "surface-vae" else str(row["title"])


def titles(study: IdentifiabilityStudy) -> dict[str, str]:
    """What a reader calls each cell, by its key."""
    return {row["cell"]: name(row) for row in _rows(study)}


def _split(study: IdentifiabilityStudy) -> tuple[list[Row], list[Row]]:
    """Rows of models that should agree, and of those that need not; with runs to compare."""
    rows = [row for row in _rows(study) if row["used"] > 1]
    return (
        [row for row in rows if row["should_agree"]],
        [row for row in rows if not row["should_agree"]],
    )


def _rows(study: IdentifiabilityStudy) -> list[Row]:
    return [dict(row) for _, row in study.frame.iterrows()]


def _flows(study: IdentifiabilityStudy, rows: Mapping[str, Row]) -> str:
    found = _both(rows, "triangular-map", "generic-flow")
    if found is None:
        return ""
    one, other = found
    runs = study.runs[study.runs["cell"].isin([one["cell"], other["cell"]])]
    spread = float(runs["bound"].max() - runs["bound"].min())
    equal = "are equal" if spread <= EQUAL_LIKELIHOOD else "are not equal"
    return (
        f"Flows: held-out log likelihoods of all {len(runs)} runs {equal} (they lie within "
        f"{_three(spread)} nats; up to {EQUAL_LIKELIHOOD:g} counts as equal). Two runs of the "
        f"triangular map agree with a raw R² of at least {_three(one['raw_r2_min'])}, those of "
        f"the generic flow with {_two(other['raw_r2_mean'])} on average; the best affine map "
        f"brings some of these no closer than {_two(other['affine_r2_min'])}."
    )


def _environments(rows: Mapping[str, Row]) -> str:
    keys = ("vae", "learned-prior", "fixed-prior-centred")
    weak = [rows[key] for key in keys if key in rows and rows[key]["used"] > 1]
    fixed_ones = [
        rows[key]
        for key in ("fixed-prior", "fixed-prior-warm-start")
        if key in rows and rows[key]["used"] > 1
    ]
    if not weak or not fixed_ones:
        return ""
    least = min(row["raw_r2_min"] for row in fixed_ones)
    others = ", ".join(
        f"{row['title']} {_two(row['raw_r2_mean'])} with an MCC of {_three(row['mcc_mean'])}"
        for row in weak
    )
    truth = min(row["truth_raw_r2"] for row in fixed_ones)
    high = min(row["mcc_mean"] for row in [*fixed_ones, *weak]) >= AGREE
    blind = " MCC cannot tell these models apart." if high else ""
    return (
        f"Environments: with fixed priors the best runs agree with a raw R² of at least "
        f"{_three(least)} (with the true codes: {_two(truth)}). On average over pairs it is, for "
        f"the others: {others}.{blind}"
    )


def _curve(rows: Mapping[str, Row]) -> str:
    found = _both(rows, "curve", "curve-sign")
    if found is None:
        return ""
    before, after = found
    signs = before["sign_r2_min"] >= AGREE
    one = "agree" if signs else "do not agree, even"
    two = "agree" if agrees(after) else "do not agree"
    return (
        f"Curve: the exact posterior means of a one-to-one leaky-ReLU network {one} up to their "
        f"sign (lowest R² after sign flips {_three(before['sign_r2_min'])}, raw "
        f"{_two(before['raw_r2_min'])}). With one convention, {after['rule']}, they {two} as they "
        f"stand (lowest raw R² {_three(after['raw_r2_min'])})."
    )


def _surface(rows: Mapping[str, Row]) -> str:
    found = _both(rows, "surface-vae", "triangular-vae")
    if found is None:
        return ""
    plain, triangular = found
    enough = "are enough" if agrees(triangular) else "were not enough"
    return (
        f"Surface: two of eight outputs as anchors {enough}. Runs of the triangular VAE agree "
        f"with a raw R² of at least {_three(triangular['raw_r2_min'])}, those of a plain VAE with "
        f"{_two(plain['raw_r2_mean'])} on average (after a rotation: at least "
        f"{_two(plain['orthogonal_r2_min'])}). The best bounds are "
        f"{_two(triangular['bound_best'])} and {_two(plain['bound_best'])} nats."
    )


def _both(rows: Mapping[str, Row], first: str, second: str) -> tuple[Row, Row] | None:
    if not all(key in rows and rows[key]["used"] > 1 for key in (first, second)):
        return None
    return rows[first], rows[second]


def agreement_cells(row: Row, metrics: Sequence[str]) -> tuple[str, ...]:
    """Mean over pairs and the lowest pair, for some rungs."""
    if not row["used"] > 1:
        return (MISSING,) * len(metrics)
    return tuple(f"{_three(row[f'{m}_mean'])} / {_three(row[f'{m}_min'])}" for m in metrics)


def _two(value: float) -> str:
    return MISSING if math.isnan(value) else fixed(value, 2)


def _three(value: float) -> str:
    return MISSING if math.isnan(value) else fixed(value, 3)
