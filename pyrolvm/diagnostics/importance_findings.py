"""What the importance weights of a guide mean, in words and levels.

The thresholds are stated here, once: k̂ is judged by the share of data above the threshold of its
sample size, allowing for its error, and names no defect, because a heavy tail may come from a
scale, a correlation or a missed region. Only evidence from outside convicts the guide of a missed
mode.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from pyrolvm.diagnostics.finding import Finding, Level
from pyrolvm.diagnostics.importance import SHORTEST_TAIL, tail_length
from pyrolvm.diagnostics.rounding import rounded
from pyrolvm.diagnostics.verdict import MASS_WITHIN_REACH

if TYPE_CHECKING:
    from pyrolvm.diagnostics.importance_report import Importance

NORMAL_QUANTILE = 1.96
FEW = 0.01
"""Share of data above the threshold that chance alone may put there."""
MANY = 0.1
"""Share of data above the threshold from which the guide as a whole is not to be relied on."""
LOW_ESS, LOWEST_ESS = 0.05, 0.01
GOOD_OVERLAP, POOR_OVERLAP = 0.8, 0.3
LARGE_VARIANCE = 1.0
SKEWED = 0.5
UNSEEN = 0.1
"""Share of the posterior's mass whose absence counts as a missed region."""
BLIND = 0.2
"""Standard error of that share from which on nothing can be said of it."""
HARMLESS = 0.3
"""k̂ below which the error of the mean weight can be believed at a thousand draws."""
ERRORS = 5.0
ROUNDING = 1e-9
"""Figures below this are 0 but for floating point."""


def judge_importance(found: Importance) -> tuple[Finding, ...]:
    """One finding a figure, the tail shape first.

    Args:
        found: The figures of the weights.
    """
    judged = [_tail(found), _size(found), _spread(found), _overlap(found), _mass(found)]
    return tuple(finding for finding in judged if finding is not None)


def _tail(found: Importance) -> Finding:
    if tail_length(found.num_particles) < SHORTEST_TAIL:
        return Finding(
            "importance", "k-hat, largest", math.nan, level="unknown",
            sentence=f"k-hat needs at least 21 draws of the guide, but there are "
            f"{found.num_particles}.",
            advice="Draw 1,000 particles.",
        )  # fmt: skip
    worst = int(found.khat.argmax())
    value, error = found.khat[worst].item(), found.khat_se[worst].item()
    clearly = found.khat.isposinf() | (
        found.khat - NORMAL_QUANTILE * found.khat_se > found.threshold
    )
    level: Level = "care"
    if found.share_above > MANY and clearly.any():
        level = "bad"
    elif found.share_above <= FEW and not clearly.any():
        level = "good"
    return Finding(
        "importance", "k-hat, largest", value, error, level=level,
        sentence=_tail_sentence(found, value, error, worst, level),
        advice="" if level == "good" else (
            "Let the moments say in which direction the guide falls short; a richer family "
            "(full covariance, mixture, flow) or more training steps usually lower k-hat, and "
            "until then reweight the draws only with a warning."
        ),
    )  # fmt: skip


def _tail_sentence(found: Importance, value: float, error: float, worst: int, level: Level) -> str:
    if math.isinf(value) and value < 0:
        return (
            "All importance weights of a datum are equal: wherever the guide draws, it is the "
            "posterior."
        )
    whose = "" if len(found.khat) == 1 else f" (datum {worst})"
    share = (
        f" {100 * found.share_above:.3g} % of {len(found.khat)} data lie above"
        f" the threshold {found.threshold:.2f} of {found.num_particles} draws."
        if len(found.khat) > 1
        else f" The threshold of {found.num_particles} draws is {found.threshold:.2f}."
    )
    largest = f"The largest k-hat is {rounded(value, error)}{whose}."
    if math.isinf(value):
        largest = f"The tail of the weights is too short or too heavy to fit a k-hat{whose}."
    meaning = {
        "good": "Importance weights can repair what the guide gets wrong where it draws; a "
        "guide that is too wide and a mode that it never visits are not seen by k-hat.",
        "care": "The tail of the weights is heavy or nearly so: where the posterior has mass, "
        "the guide has too little of it for some of the data.",
        "bad": "The weights have a heavy tail: the guide is too narrow in some direction, or "
        "misses a region of the posterior, and importance sampling cannot repair it.",
        "unknown": "",
    }[level]
    return f"{largest}{share} {meaning}"


def _size(found: Importance) -> Finding:
    share = found.ess / found.num_particles
    value = share.median().item()
    level: Level = "good" if value >= LOW_ESS else "care" if value >= LOWEST_ESS else "bad"
    lowest = f", the lowest {share.min().item():.2g}" if len(share) > 1 else ""
    return Finding(
        "importance", "effective sample size", value, unit="share", level=level,
        sentence=f"Weighted, {found.num_particles} draws of the guide are worth "
        f"{value * found.num_particles:.0f} of the posterior (share {value:.2g}{lowest}).",
        advice="" if level == "good" else (
            "Bring the guide closer to the posterior before weighting its draws: most of them "
            "fall where the posterior has hardly any mass."
        ),
    )  # fmt: skip


def _spread(found: Importance) -> Finding:
    value = found.log_weight_variance.mean().item()
    error = found.log_weight_variance_se.square().mean().sqrt().item() / math.sqrt(
        len(found.log_weight_variance)
    )
    if math.isinf(value):
        return Finding(
            "importance", "variance of the log weights", value, unit="nats²", level="care",
            sentence="Some draws of the guide lie outside the support of the posterior and "
            "have no weight.",
            advice="Give each site of the guide the support of the model's.",
        )  # fmt: skip
    if value < ROUNDING:
        return Finding(
            "importance", "variance of the log weights", value, error, "nats²",
            sentence="The log weights do not vary, as they do not for the posterior itself.",
        )  # fmt: skip
    skew = found.log_weight_skewness.mean().item()
    side, gap = "", "" if value > LARGE_VARIANCE else ", and half of it is roughly the gap"
    if value > LARGE_VARIANCE and abs(skew) > SKEWED:
        side = (
            " They are long below, as for a guide that reaches where the posterior has no mass"
            if skew < 0
            else " They are long above, as for a guide that is narrower than the posterior"
        ) + f" (skewness {skew:.2g})."
    return Finding(
        "importance", "variance of the log weights", value, error, "nats²",
        level="good" if value <= LARGE_VARIANCE else "care",
        sentence=f"The log weights have the variance {value:.3g} ± {error:.2g} nats²; it is 0 "
        f"only for the posterior itself{gap}.{side}",
    )  # fmt: skip


def _overlap(found: Importance) -> Finding:
    value = found.bc2.mean().item()
    error = found.bc2_se.square().mean().sqrt().item() / math.sqrt(len(found.bc2))
    level: Level = "good" if value >= GOOD_OVERLAP else "care" if value >= POOR_OVERLAP else "bad"
    blind = (
        "; the evidence is the weights' own, so that a missed mode does not show"
        if not found.has_evidence
        else f", with evidence from outside ({found.evidence})"
    )
    return Finding(
        "importance", "overlap with the posterior (BC²)", value, error, "", level,
        f"Guide and posterior overlap by BC² = {rounded(value, error)} (1 where they are "
        f"equal, 0 where they are disjoint){blind}.",
    )  # fmt: skip


def _mass(found: Importance) -> Finding | None:
    if found.mass_seen is None or found.mass_seen_se is None:
        return None
    highest = found.mass_seen + ERRORS * found.mass_seen_se
    misses = (highest < 1 - UNSEEN) & (found.khat < HARMLESS)
    many = misses.double().mean().item() > FEW and found.share_above <= 0.5
    lowest = int(torch.where(misses | ~misses.any(), found.mass_seen, math.inf).argmin())
    value, error = found.mass_seen[lowest].item(), found.mass_seen_se[lowest].item()
    whose = "" if len(misses) == 1 else f" of datum {lowest}"
    if not many:
        short = (highest < 1 - UNSEEN).double().mean().item() > FEW
        blind = found.mass_seen_se.median().item() > BLIND
        level: Level = "care" if short else "unknown" if blind else "good"
        then = {
            "care": ": a part of the posterior is hard for the guide to reach, or out of reach",
            "unknown": ": the evidence is too uncertain to show whether a region is missed",
        }.get(level, "")
        return Finding(
            "importance", MASS_WITHIN_REACH, value, error, "share", level,
            f"The draws account for {rounded(value, error)} of the evidence{whose} "
            f"({found.evidence}){then}.",
        )  # fmt: skip
    return Finding(
        "importance", MASS_WITHIN_REACH, value, error, "share", "bad",
        f"The draws account for only {rounded(value, error)} of the evidence{whose} "
        f"({found.evidence}), while their weights look harmless: the rest of the posterior is "
        "where the guide never draws.",
        "misses a mode",
        "Start the guide from several places, or use a mixture family.",
    )  # fmt: skip
