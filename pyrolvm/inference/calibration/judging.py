"""From ranks to findings: is the guide calibrated, and if not, in which direction is it wrong?

A test with many simulations finds every defect, also one that does not matter; how much it matters
is judged by the Gaussian pair that has the same ranks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pyrolvm.diagnostics.finding import Defect, Finding, Level
from pyrolvm.inference.calibration.shard import LOG_JOINT

if TYPE_CHECKING:
    from pyrolvm.inference.calibration.calibration import Calibration, QuantityCalibration

SIGNIFICANCE = 0.01
"""Adjusted p-value from which on a quantity counts as uncalibrated."""
LARGE_FACTOR = 1.5
"""Factor between the widths of guide and posterior from which on intervals mislead."""
LARGE_SHIFT = 0.5
"""Shift in posterior standard deviations, likewise."""
LARGE_DISTANCE = 0.1
"""Difference of distribution functions, likewise: so much is an interval's coverage off."""
CLEAR = 3.0
"""Standard errors at which a width or a shift is named."""
NOMINAL = 0.9
LEAST_P = 1e-12

ADVICE: dict[Defect, str] = {
    "too narrow": "Take a richer family (full covariance, a mixture, a flow) or an importance-"
    "weighted objective; until then correct its draws by their importance weights.",
    "too wide": "Train longer, and look for a lower bound on the guide's scales.",
    "shifted": "Train longer; where an encoder makes the guide, give it more capacity and scaled "
    "inputs.",
    "wrong shape": "Take a family with more shapes (a mixture, a flow), and compare guide and "
    "posterior at single data.",
}


def judge_calibration(calibration: Calibration) -> tuple[Finding, ...]:
    """Findings of a calibration: ranks, coverage, random points.

    Args:
        calibration: The ranks.
    """
    ranks = _of_ranks(calibration)
    named = ranks[0].defect
    return (*ranks, _of_coverage(calibration, named), _of_distances(calibration, named))


def _of_ranks(calibration: Calibration) -> tuple[Finding, ...]:
    """One finding for each kind of defect, the worst coordinate named; or one that all is well.

    The log joint density is wrong wherever a coordinate is; it says something of its own where
    all of these are right.
    """
    wrong = [each for each in calibration.quantities if each.adjusted < SIGNIFICANCE]
    if not wrong:
        return (_well(calibration),)
    of_coordinates = [each for each in wrong if each.name != LOG_JOINT]
    groups: dict[Defect, list[QuantityCalibration]] = {}
    for each in sorted(of_coordinates or wrong, key=lambda each: -each.distance):
        groups.setdefault(_defect(each), []).append(each)
    return tuple(_bad(defect, group, calibration) for defect, group in groups.items())


def _well(calibration: Calibration) -> Finding:
    worst = min(calibration.quantities, key=lambda each: each.adjusted)
    errors = [each.shape.sd_ratio_error for each in calibration.quantities]
    seen = CLEAR * max((error for error in errors if not math.isnan(error)), default=math.nan)
    return Finding(
        "calibration", "SBC, smallest adjusted p", worst.adjusted, level="good",
        sentence=(
            f"On {calibration.num_simulations:,} simulated data the ranks of the truth among the "
            f"guide's draws are uniform (smallest adjusted {_p(worst.adjusted)}, of "
            f"{worst.name}); a width wrong by {seen:.0%} would have shown."
        ),
    )  # fmt: skip


def _defect(quantity: QuantityCalibration) -> Defect:
    shape = quantity.shape
    if quantity.name == LOG_JOINT:
        return "wrong shape"
    if not 0 < shape.sd_ratio < math.inf:
        return "too wide" if shape.sd_ratio else "too narrow"
    width, shift = _width_score(quantity), shape.shift / shape.shift_error
    if max(abs(width), abs(shift)) < CLEAR:
        return "wrong shape"
    if abs(shift) > abs(width):
        return "shifted"
    return "too narrow" if width < 0 else "too wide"


def _width_score(quantity: QuantityCalibration) -> float:
    """Logarithm of the ratio of widths, in standard errors."""
    shape = quantity.shape
    return math.log(shape.sd_ratio) * shape.sd_ratio / shape.sd_ratio_error


def _bad(defect: Defect, group: list[QuantityCalibration], calibration: Calibration) -> Finding:
    worst = group[0]
    others = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return Finding(
        "calibration", f"SBC, adjusted p of {worst.name}", worst.adjusted,
        level=_level(worst, defect),
        sentence=(
            f"On {calibration.num_simulations:,} simulated data the ranks of {worst.name}{others} "
            f"are not uniform (adjusted {_p(worst.adjusted)}): {_in_words(defect, worst)}."
        ),
        defect=defect, advice=ADVICE[defect],
    )  # fmt: skip


def _level(quantity: QuantityCalibration, defect: Defect) -> Level:
    if defect == "wrong shape":
        return "bad" if quantity.distance > LARGE_DISTANCE else "care"
    ratio, shift = quantity.shape.sd_ratio, abs(quantity.shape.shift)
    small = 1 / LARGE_FACTOR < ratio < LARGE_FACTOR and shift < LARGE_SHIFT
    return "care" if small else "bad"


def _in_words(defect: Defect, quantity: QuantityCalibration) -> str:
    shape = quantity.shape
    if quantity.name == LOG_JOINT:
        if shape.mean_score < 0:
            return "the guide's draws are denser under the model than the truth is"
        return (
            "the truth is denser under the model than the guide's draws are, as where a guide "
            "ignores part of the data or a correlation"
        )
    if defect == "shifted":
        return (
            f"the guide lies {abs(shape.shift):.2f} ± {shape.shift_error:.2f} posterior standard "
            f"deviations too {'high' if shape.shift > 0 else 'low'}"
        )
    if defect == "wrong shape":
        return "neither a width nor a shift of a Gaussian explains it"
    if not 0 < shape.sd_ratio < math.inf:
        return f"the guide is {defect} by a large factor"
    return (
        f"the guide is {defect}, as if its standard deviation were {shape.sd_ratio:.2f} ± "
        f"{shape.sd_ratio_error:.2f} times the posterior's"
    )


def _p(value: float) -> str:
    """A p-value in words; what double precision cannot tell from 0 is no zero."""
    return f"p {value:.2g}" if value > LEAST_P else f"p below {LEAST_P:.0e}"


def _of_coverage(calibration: Calibration, named: Defect | None) -> Finding:
    share, error = calibration.coverage(NOMINAL)
    name = f"coverage of {NOMINAL:.0%} regions"
    if calibration.levels is None:
        return Finding(
            "calibration", name, math.nan, level="unknown",
            sentence=f"Coverage of the guide's highest-density regions is not known, because "
            f"{calibration.without_density}.",
        )  # fmt: skip
    says = (
        f"The guide's {NOMINAL:.0%} highest-density regions hold the truth in {share:.1%} of "
        f"{calibration.num_simulations:,} simulations"
    )
    if calibration.coverage_p >= SIGNIFICANCE:
        return Finding(
            "calibration", name, share, error, "share", "good",
            f"{says}; at all levels they hold what they claim ({_p(calibration.coverage_p)}).",
        )  # fmt: skip
    if named is None:
        clear = abs(share - NOMINAL) > CLEAR * error
        named = "wrong shape" if not clear else "too narrow" if share < NOMINAL else "too wide"
    return Finding(
        "calibration", name, share, error, "share",
        "bad" if abs(share - NOMINAL) > LARGE_DISTANCE else "care",
        f"{says} (over all levels {_p(calibration.coverage_p)}).", named, ADVICE[named],
    )  # fmt: skip


def _of_distances(calibration: Calibration, named: Defect | None) -> Finding:
    named = named or "wrong shape"
    test = calibration.uniformity
    off = abs(test.counts(calibration.distances) / test.size - test.nominal).max()
    fits = calibration.tarp_p >= SIGNIFICANCE
    return Finding(
        "calibration", "TARP, p", calibration.tarp_p,
        level="good" if fits else "bad" if off > LARGE_DISTANCE else "care",
        sentence=(
            "Seen from random points, the truth is as far away as the guide's draws are (TARP, "
            f"{_p(calibration.tarp_p)})."
            if fits
            else "Seen from random points, the truth is not as far away as the guide's draws are "
            f"(TARP, {_p(calibration.tarp_p)}): the expected coverage is off by up to {off:.0%}."
        ),
        defect=None if fits else named,
        advice="" if fits else ADVICE[named],
    )  # fmt: skip
