"""What two-sample tests say of a guide: whether there is a difference, and whether it matters.

With enough draws every guide is told from the posterior. So a test that rejects is no verdict by
itself: the size of the difference is, as the accuracy of the classifier and as a distance in
posterior standard deviations. P-values of several data are adjusted by Holm's method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyrolvm.diagnostics.finding import Finding, Level
from pyrolvm.diagnostics.significance import critical_value, holm

if TYPE_CHECKING:
    from pyrolvm.diagnostics.two_sample.result import Tests, TwoSample

SIGNIFICANT = 0.05
"""Level of the tests, for all data together."""

CARE_C2ST, BAD_C2ST = 0.55, 0.7
"""Accuracies that a Gaussian reaches if it is shifted by 0.25 and by 1 standard deviations."""

MOST_CHANCE = 0.6
"""Where chance alone reaches more, too few draws are left to learn from."""

CARE_DISTANCE, BAD_DISTANCE = 0.2, 0.5
"""Sliced Wasserstein distance in posterior sd; a guide half as wide as the posterior has 0.5."""

ADVICE = "Look at the moments: they say in which direction guide and posterior differ."


def two_sample_findings(tests: TwoSample) -> tuple[Finding, ...]:
    """One finding each of the classifier, the kernel and the distance.

    Args:
        tests: The tests.

    Returns:
        Findings of the diagnostic ``"two_sample"``.
    """
    return _classifier(tests), _kernel(tests), _distance(tests)


def _classifier(tests: TwoSample) -> Finding:
    found, worst = _rejected(tests.c2st)
    value, high = tests.c2st.value[worst], tests.c2st.null_high[worst]
    figure = f"{value:.2f} ± {tests.c2st_se[worst]:.2f}"
    level = _level(value, CARE_C2ST, BAD_C2ST)
    if not found.any():
        level = "good" if high <= MOST_CHANCE else "unknown"
    sentence = (
        f"A classifier tells guide from posterior draws{_counted(found)}: its accuracy is "
        f"{figure} for {tests.labels.datum(worst)}, where equal ones give up to {high:.2f}"
        if found.any()
        else f"A classifier does not tell guide from posterior draws{_pooled(tests.c2st)}: its "
        f"best accuracy is {figure}, where equal ones give up to {high:.2f}"
    )
    if found.any() and level == "good":
        sentence += "; so small a difference is of no consequence"
    if level == "unknown":
        sentence = (
            f"With {tests.num_draws[worst]} independent draws a classifier learns too little"
        )
    return Finding(
        "two_sample",
        "C2ST accuracy",
        float(value),
        float(tests.c2st_se[worst]),
        "share",
        level,
        sentence + ".",
        advice=ADVICE if level in ("care", "bad") else "",
    )


def _kernel(tests: TwoSample) -> Finding:
    """The kernel test has no scale: whether its difference matters is left to the distance."""
    found, worst = _rejected(tests.mmd)
    adjusted = holm(tests.mmd.p_value)[worst]
    size = tests.sliced_wasserstein[worst]
    matters = found.any() and _counts(tests)[worst]
    level = _level(size, CARE_DISTANCE, BAD_DISTANCE) if matters else "good"
    sentence = (
        f"The kernel test finds a difference{_counted(found)}, p = {adjusted:.2g} for "
        f"{tests.labels.datum(worst)}"
        if found.any()
        else f"The kernel test finds no difference{_pooled(tests.mmd)}: the least p-value is "
        f"{adjusted:.2g}"
    )
    return Finding(
        "two_sample",
        "MMD, least p-value",
        float(adjusted),
        level=level,
        sentence=sentence + (" (adjusted for several data)." if len(found) > 1 else "."),
        advice=ADVICE if level in ("care", "bad") else "",
    )


def _distance(tests: TwoSample) -> Finding:
    counts = _counts(tests)
    value = tests.sliced_wasserstein
    worst = int(np.where(counts | ~counts.any(), value, -1.0).argmax())
    level = _level(value[worst], CARE_DISTANCE, BAD_DISTANCE) if counts[worst] else "good"
    chance = tests.sliced_wasserstein_null[worst]
    if level == "good" and chance > BAD_DISTANCE:
        level = "unknown"
    error = tests.sliced_wasserstein_se[worst]
    figure = f"{value[worst]:.2f}" + (f" ± {error:.2f}" if np.isfinite(error) else "")
    return Finding(
        "two_sample",
        "sliced Wasserstein distance",
        float(value[worst]),
        float(error),
        "posterior sd",
        level,
        f"Seen along one direction after another, guide and posterior lie {figure} posterior "
        f"standard deviations apart for {tests.labels.datum(worst)}, where chance reaches "
        f"{chance:.2f}.",
        advice=ADVICE if level in ("care", "bad") else "",
    )


def _rejected(tests: Tests) -> tuple[NDArray[np.bool_], int]:
    """Data that differ, and the one that differs most among them (among all if none does)."""
    found = holm(tests.p_value) < SIGNIFICANT
    excess = tests.value - tests.null_high
    return found, int(np.where(found | ~found.any(), excess, -np.inf).argmax())


def _counts(tests: TwoSample) -> NDArray[np.bool_]:
    """Distances that are beyond chance, by their own error and by one of the exact tests."""
    value, error = tests.sliced_wasserstein, tests.sliced_wasserstein_se
    chance = critical_value(len(value)) * np.nan_to_num(error, nan=np.inf)
    above: NDArray[np.bool_] = value > np.maximum(tests.sliced_wasserstein_null, chance)
    return above & (_rejected(tests.c2st)[0] | _rejected(tests.mmd)[0])


def _level(value: float, care: float, bad: float) -> Level:
    return "bad" if value > bad else "care" if value > care else "good"


def _counted(found: NDArray[np.bool_]) -> str:
    return f" in {int(found.sum())} of {len(found)} data" if len(found) > 1 else ""


def _pooled(tests: Tests) -> str:
    if len(tests.value) == 1:
        return ""
    together = f"p = {tests.pooled_p_value:.2g}"
    if tests.pooled_p_value < SIGNIFICANT:
        return f" in any one datum, though it does in all together ({together})"
    return f" in any one datum, nor in all together ({together})"
