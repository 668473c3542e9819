"""What predictive checks mean: is it the model that misses the data, or the guide?

A check fails where the smallest two-sided p-value, corrected for the number of statistics, is
below 1 %. If predictions of the weighted draws fail as well and the weights can be relied on, no
guide would help: the model misses the data. If they do not, the guide is at fault. Where every
datum has a latent of its own, predictions from that datum's posterior come close to it for nearly
any model, and new data from the prior are the sharper check.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pyrolvm.diagnostics.finding import Finding, Level
from pyrolvm.diagnostics.predictive_checks import smallest_p

if TYPE_CHECKING:
    from pyrolvm.diagnostics.prediction import Checks, LeaveOneOut, Prediction

FAILS = 0.01
DOUBTFUL = 0.05
LEAST_P = 1e-12
"""p-values below this are not told from 0."""
LARGE_DIFFERENCE = 4.0
"""Nats of elpd from which a difference between models counts as one."""
MODEL_ADVICE = (
    "Change the model before the guide: let the statistic that fails suggest the missing part "
    "(a heavier tail, more noise, a further level, another likelihood)."
)


def judge_prediction(found: Prediction) -> tuple[Finding, ...]:
    """Findings of the predictive check, the prior predictive check, leave-one-out and PIT.

    Args:
        found: The figures.
    """
    judged = [_posterior_check(found)]
    if found.prior is not None:
        judged.append(_prior_check(found, found.prior))
    if found.loo is not None:
        judged.append(_loo(found, found.loo))
    if found.pit is not None:
        judged.append(_pit(found, found.pit))
    judged += [
        Finding("prediction", part, math.nan, level="unknown", sentence=reason)
        for part, reason in found.missing.items()
    ]
    return tuple(judged)


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= LEAST_P else f"below {LEAST_P:.0e}"


def _worst(found: Prediction, checks: Checks) -> tuple[float, float, str]:
    """Corrected smallest p-value, its error, and the statistic with its place in words."""
    p_values = checks.p_values
    worst = int(p_values.argmin())
    corrected = smallest_p(p_values)
    side = "above" if checks.observed[worst] > np.median(checks.replicated[:, worst]) else "below"
    words = (
        f"the {found.statistics[worst]} of the data, {checks.observed[worst]:.3g}, lies {side} "
        f"what is predicted, {_interval(checks.replicated[:, worst])}"
    )
    return corrected, len(p_values) * float(checks.errors[worst]), words


def _interval(draws: np.ndarray) -> str:
    low, high = np.quantile(draws, [0.05, 0.95])
    return f"{low:.3g} to {high:.3g}"


def _posterior_check(found: Prediction) -> Finding:
    name = "posterior predictive p-value, smallest"
    by_guide, error, words = _worst(found, found.guide)
    weighted, _, weighted_words = _worst(found, found.posterior)
    count = len(found.statistics)
    if by_guide >= FAILS and (weighted >= FAILS or not found.reliable):
        level: Level = "good" if by_guide >= DOUBTFUL else "care"
        caution = (
            " Each datum is predicted from its own posterior, which few models fail."
            if found.factorises
            else ""
        )
        of = (
            f"of {count} statistics, the smallest p-value, corrected for their number,"
            if count > 1
            else f"the p-value of the {found.statistics[0]}"
        )
        return Finding(
            "prediction", name, by_guide, error, level=level,
            sentence=f"New data from the guide's draws look like the data: {of} is "
            f"{_p(by_guide)}.{caution}",
        )  # fmt: skip
    if weighted < FAILS and found.reliable:
        return Finding(
            "prediction", name, weighted, error, level="bad",
            sentence=f"The model misses the data: {weighted_words} from the posterior "
            f"(corrected p-value {_p(weighted)}).",
            defect="model misfit", advice=MODEL_ADVICE,
        )  # fmt: skip
    if found.reliable:
        return Finding(
            "prediction", name, by_guide, error, level="care",
            sentence=f"The guide, not the model, predicts badly: {words} from the guide's draws "
            f"(corrected p-value {_p(by_guide)}), while the same draws weighted to the posterior "
            f"predict the data ({_p(weighted)}).",
            advice="Improve the guide, or weight its draws before predicting.",
        )  # fmt: skip
    return Finding(
        "prediction", name, by_guide, error, level="care",
        sentence=f"Predictions from the guide's draws miss the data: {words} (corrected p-value "
        f"{_p(by_guide)}). Whether guide or model is at fault cannot be told, because the weights "
        "cannot take the draws to the posterior.",
        advice="Improve the guide first, then look at this check again.",
    )  # fmt: skip


def _prior_check(found: Prediction, prior: Checks) -> Finding:
    value, error, words = _worst(found, prior)
    name = "prior predictive p-value, smallest"
    if value >= FAILS:
        return Finding(
            "prediction", name, value, error, level="good" if value >= DOUBTFUL else "care",
            sentence="New data from the prior and the model's parameters look like the data "
            f"(smallest corrected p-value {_p(value)}).",
        )  # fmt: skip
    if found.factorises:
        return Finding(
            "prediction", name, value, error, level="bad",
            sentence=f"New data from the model do not look like the data: {words} (corrected "
            f"p-value {_p(value)}). The guide has no part in this check.",
            defect="model misfit", advice=MODEL_ADVICE,
        )  # fmt: skip
    return Finding(
        "prediction", name, value, error, level="care",
        sentence=f"Prior and data disagree before anything is fitted: {words} (corrected p-value "
        f"{_p(value)}).",
        advice="Check the scales of the priors and of the data.",
    )  # fmt: skip


def _loo(found: Prediction, loo: LeaveOneOut) -> Finding:
    above = float((loo.pareto_k > found.khat_threshold).mean())
    level: Level = "good" if above <= 0.01 else "care"
    sentence = (
        f"Leaving one out, the log predictive density of {loo.elpd.size} observations is "
        f"{loo.total:.1f} ± {loo.standard_error:.1f} nats ({loo.method})."
    )
    if above:
        sentence += (
            f" For {100 * above:.3g} % of them Pareto k lies above {found.khat_threshold:.2f}: "
            "the figure cannot be relied on."
        )
    if abs(loo.excess) > LARGE_DIFFERENCE:
        higher = "higher" if loo.excess > 0 else "lower"
        sentence += (
            f" ArviZ's loo on the guide's draws, which takes them for the posterior's, comes out "
            f"{abs(loo.excess):.1f} nats {higher}: do not compare models by it."
        )
        level = level if found.factorises else "care"
    advice = (
        "Report the corrected figure; refit without the observations that have a large Pareto k."
    )
    return Finding(
        "prediction", "elpd, leave-one-out", loo.total, loo.standard_error, "nats",
        level, sentence, advice="" if level == "good" or found.factorises else advice,
    )  # fmt: skip


def _pit(found: Prediction, pit: np.ndarray) -> Finding:
    from scipy.stats import kstest

    value = float(kstest(pit, "uniform").pvalue)
    name = "PIT, uniform (Kolmogorov–Smirnov p-value)"
    if value >= FAILS:
        return Finding(
            "prediction", name, value, level="good" if value >= DOUBTFUL else "care",
            sentence=f"Observations lie among their leave-one-out predictions as they should "
            f"(p-value {_p(value)} of uniform places).",
        )  # fmt: skip
    spread = pit.var() * 12
    shape = (
        "too often at the ends: the predictions are too narrow"
        if spread > 1.15
        else "too often in the middle: the predictions are too wide"
        if spread < 0.85
        else "too low among their predictions"
        if pit.mean() < 0.5
        else "too high among their predictions"
    )
    return Finding(
        "prediction", name, value, level="bad" if found.reliable else "care",
        sentence=f"Observations lie {shape} (p-value {_p(value)} of uniform places).",
        defect="model misfit" if found.reliable else None,
        advice=MODEL_ADVICE if found.reliable else "Improve the guide first.",
    )  # fmt: skip
