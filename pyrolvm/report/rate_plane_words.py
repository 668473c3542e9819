"""What a rate plane says, in plain words: generated from its table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyrolvm.diagnostics.rates import CAP_MARGIN
from pyrolvm.inference.rate_plane import (
    Optimum,
    RatePlane,
    mean_over_seeds,
    rank_correlation,
)
from pyrolvm.plots.quantities import MISSING, fixed, number, percent, with_error

if TYPE_CHECKING:
    import pandas as pd

SURE = 3
"""Standard errors by which a probe has to pass Fano's bound to contradict it."""
MOST_RIVALS = 4
LIMITS = {
    "reconstruction": (
        "the total rate, however it is split",
        "a large total rate; small weight of the layer that feeds x",
    ),
    "transmitted_code": (
        "the rate of z₂, by Fano's inequality",
        "a rate of z₂ well above the entropy of the classes; β₂ below β₁, so that information "
        "moves up",
    ),
    "representation": (
        "no rate: a mean is a function of x",
        "look at the accuracy itself, not at a bound",
    ),
    "generation": (
        "what the rates exceed the information by",
        "a moderate rate of z₂: neither an unused top layer nor a posterior far from the prior",
    ),
    "likelihood": ("the sum of all terms", "weights of 1, by definition"),
}
"""What limits a task, and where in the plane to look for it."""


def headline(optima: Sequence[Optimum]) -> str:
    """The answer in one sentence."""
    places: dict[str, list[str]] = {}
    for one in optima:
        places.setdefault(_pair(one), []).append(one.task.short)
    if len(places) == 1:
        return f"One pair of weights, {_pair(optima[0])}, serves all {len(optima)} tasks best."
    said = "; ".join(f"{', '.join(tasks)} at {place}" for place, tasks in places.items())
    return f"No setting serves every task. The best weights (β₁, β₂): {said}."


def findings(plane: RatePlane) -> list[str]:
    """What was found, a sentence or two for each task, then for the bound."""
    frame = plane.frame
    shown = frame.assign(total_rate=frame["rate_1"] + frame["rate_2"])
    best = {one.task.key: one for one in plane.optima}
    entropy = plane.facts["label_entropy"]
    return [
        f"{_best(best['reconstruction'])} Its rank correlation with the total rate is "
        f"{_signed(rank_correlation(shown, 'total_rate', 'psnr'))}.",
        f"{_best(best['transmitted_code'])} Its rank correlation with the rate of z₂ is "
        f"{_signed(rank_correlation(shown, 'rate_2', 'accuracy_drawn'))}; the classes have an "
        f"entropy of {number(entropy)} nats, and a rate below that caps it.",
        f"{_best(best['representation'])} Its rank correlation with the rate of z₂ is "
        f"{_signed(rank_correlation(shown, 'rate_2', 'accuracy_mean'))}.",
        f"{_best(best['generation'])} {_hump(frame, entropy)}",
        f"{_best(best['likelihood'])} Theory wants weights of 1 here, up to the limits of "
        "training and of held-out data.",
        _drawn_obey(frame),
        _means_break(frame),
    ]


def caveats(plane: RatePlane) -> list[str]:
    """What to keep in mind."""
    facts, frame = plane.facts, plane.frame
    seeds = frame["seed"].nunique()
    capped = int((frame["information_2"] > frame["information_2_ceiling"] - CAP_MARGIN).sum())
    notes = [
        f"{_seeds(seeds)} Points that differ by less than two standard errors are not ranked; "
        "they have thin frames in the maps.",
        "Samples are judged by a small classifier, trained on the real training rows "
        f"({percent(facts['classifier_accuracy'])} right on held-out ones): its score is not "
        "comparable with scores of other classifiers.",
        f"Information is estimated from {facts['num_test']} held-out rows and cannot exceed their "
        f"logarithm, {number(float(frame['information_2_ceiling'].max()))} nats: "
        f"{_models(capped, len(frame))} within one nat of it, where the true information may be "
        "larger and the excess smaller than shown.",
        "Noise is fixed at a standard deviation of "
        f"{facts['noise_scale']:g}: weights mean something only relative to it.",
        "PSNR is that of reconstructions from mean codes. With weights other than 1 the guide is "
        "not meant to be the posterior, and is not judged as one.",
    ]
    diverged = int(frame["diverged"].sum())
    if diverged:
        notes.append(f"{_models(diverged, len(frame), '')} stopped before a loss that is not "
                     "finite, and are measured as they were then.")  # fmt: skip
    return notes


def task_rows(optima: Sequence[Optimum]) -> tuple[tuple[str, ...], ...]:
    """Rows of the table of tasks: what limits each, where to go, and where its optimum lies."""
    return tuple(
        (
            one.task.title,
            *LIMITS[one.task.key],
            _pair(one),
            f"{_nats(one.rate_1)} + {_nats(one.rate_2)}",
            with_error(one.value, one.error),
            str(len(one.rivals)) if one.rivals else "none",
        )
        for one in optima
    )


def _best(one: Optimum) -> str:
    unit = f" {one.task.unit}" if one.task.unit else ""
    return (
        f"{one.task.title}: the best {one.task.quantity} is {with_error(one.value, one.error)}"
        f"{unit}, at weights {_pair(one)} with rates of {_nats(one.rate_1)} (z₁) and "
        f"{_nats(one.rate_2)} nats (z₂){_rivals(one)}."
    )


def _rivals(one: Optimum) -> str:
    if not one.rivals:
        return ", clear of all other points"
    named = ", ".join(f"({first:.3g}, {second:.3g})" for first, second in one.rivals[:MOST_RIVALS])
    more = len(one.rivals) - MOST_RIVALS
    return f"; not told apart from {named}" + (f" and {more} more" if more > 0 else "")


def _hump(frame: pd.DataFrame, entropy: float) -> str:
    """Mean score in three ranges of the rate of z_2."""
    means = mean_over_seeds(frame)
    low, high = 0.1, 3 * entropy
    parts = (
        (f"below {low:g} nats", means[means["rate_2"] < low]),
        (
            f"between {number(entropy, 2)} and {number(high, 2)}",
            means[means["rate_2"].between(entropy, high)],
        ),
        ("above", means[means["rate_2"] > high]),
    )
    said = [f"{number(part['score'].mean())} {where}" for where, part in parts if len(part)]
    return f"By the rate of z₂, the mean score is {', '.join(said)}."


def _drawn_obey(frame: pd.DataFrame) -> str:
    over = frame[frame["accuracy_drawn"] > frame["fano_bound"]]
    excess = over["accuracy_drawn"] - over["fano_bound"]
    broken = int((excess > SURE * over["accuracy_drawn_se"]).sum())
    said = f"All {len(frame)} probes of draws stay below Fano's bound"
    if len(over):
        said = (
            f"{len(frame) - len(over)} of {len(frame)} probes of draws stay below Fano's bound, "
            f"the others pass it by at most {fixed(float(excess.max()), 3)}"
        )
        if broken:
            return (
                f"{said}, {broken} by more than {SURE} standard errors: that cannot be, and "
                "something is wrong with these models, their draws or the probes."
            )
        said += ", within the error of so few rows"
    return f"{said}: a draw of z₂ cannot tell more of the class than its rate."


def _means_break(frame: pd.DataFrame) -> str:
    """How far probes of mean codes lie above the bound, and why that is no contradiction."""
    over = frame["accuracy_mean"] - frame["fano_bound"]
    count = int((over > 0).sum())
    if not count:
        return "No probe of mean codes lies above the bound here, though nothing forbids it."
    worst = frame.iloc[int(over.argmax())]
    return (
        f"{count} of {len(frame)} probes of mean codes lie above it, the farthest at a rate of "
        f"{number(float(worst['rate_2']), 1)} nats: accuracy {fixed(worst['accuracy_mean'], 2)}, "
        f"bound {fixed(worst['fano_bound'], 2)}. That is no contradiction. The mean of q(z₂ | x) "
        "is a function of x, of any information however small its range: the rate charges for the "
        "noise around it, which such a probe never sees."
    )


def _seeds(seeds: int) -> str:
    if seeds == 1:
        return "One seed only: errors are over held-out rows."
    return f"{seeds} seeds: errors are over seeds, with the variance pooled over the grid."


def _models(count: int, total: int, verb: str = " lie") -> str:
    return (
        f"{count or 'none'} of {total} models{verb if count != 1 else verb.replace('lie', 'lies')}"
    )


def _pair(one: Optimum) -> str:
    return f"({one.weight_1:.3g}, {one.weight_2:.3g})"


def _nats(value: float) -> str:
    return fixed(value, 1 if abs(value) >= 10 else 2)


def _signed(value: float) -> str:
    return MISSING if math.isnan(value) else fixed(value, 2)
