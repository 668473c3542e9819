"""Sentences about moments, for a person who wants to know what is wrong and where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pyrolvm.diagnostics.finding import Defect
from pyrolvm.diagnostics.rounding import rounded

if TYPE_CHECKING:
    from pyrolvm.diagnostics.moments.directions import Direction
    from pyrolvm.diagnostics.moments.result import Moments

ADVICE: dict[Defect, str] = {
    "misses a mode": "Start the fit from several places and keep what they find, or use a mixture "
    "or a flow as the guide's family; importance sampling cannot repair a missed mode.",
    "ignores correlation": 'Give the guide a full covariance (family="full", '
    "AutoMultivariateNormal, or AutoLowRankMultivariateNormal in many dimensions) or a flow.",
    "too narrow": "Train for longer first; then use an objective that covers the posterior "
    "(importance-weighted ELBO, forward KL), or a family with heavier tails.",
    "too wide": "Train for longer, with more particles and a smaller last step size: a guide that "
    "maximises the ELBO is seldom too wide once it has converged.",
    "shifted": "Train for longer, with a smaller step at the end; if an encoder makes the guide, "
    "give it more capacity.",
    "wrong shape": "Use a flow or a mixture as the guide's family, or reparameterise the model "
    "(non-centred, other units) so that its posterior is closer to Gaussian.",
}

BECAUSE: dict[Defect, str] = {
    "misses a mode": ", as it must be where a mode is missed",
    "ignores correlation": ", as it must be where correlations are ignored",
}


def missed(moments: Moments, row: int, _column: int, _defect: Defect) -> str:
    """Which mode is missed."""
    modes = moments.modes
    lost = (modes.posterior_share[row] - modes.guide_share[row]).nan_to_num(nan=-1.0).argmax()
    return (
        f"The guide misses a mode of {moments.labels.datum(row)}: "
        f"{100 * modes.posterior_share[row, lost].item():.0f} % of the posterior lies in it, and "
        f"{100 * modes.guide_share[row, lost].item():.1f} % of the guide's draws"
    )


def shift(moments: Moments, row: int, column: int, defect: Defect) -> str:
    """Where the mean is."""
    value, error = (each[row, column].item() for each in moments.mean_error)
    return (
        f"The guide's mean of {moments.labels.place(row, column)} is {rounded(abs(value), error)} "
        f"posterior standard deviations too {'high' if value > 0 else 'low'}"
        f"{BECAUSE.get(defect, '')}"
    )


def width(moments: Moments, row: int, column: int, defect: Defect) -> str:
    """How wide a marginal is."""
    value, error = (each[row, column].item() for each in moments.log_sd_ratio)
    text = (
        f"The guide is too {'narrow' if value < 0 else 'wide'} in "
        f"{moments.labels.place(row, column)}: its standard deviation is {ratio(value, error)} "
        "times the posterior's"
    )
    if defect != "ignores correlation":
        return text + BECAUSE.get(defect, "")
    conditional = math.exp(moments.conditional_log_sd[row, column].item())
    return (
        f"{text}, which is what ignoring correlation costs (the conditional posterior is "
        f"{conditional:.2f} times as wide as the marginal one)"
    )


def correlation(moments: Moments, row: int, _column: int, defect: Defect) -> str:
    """Which correlation is wrong."""
    found, labels = moments.correlation, moments.labels
    one, other = (labels.coordinates[index] for index in found.pair[row].tolist())
    posterior = found.posterior[row].item()
    verb = "ignores correlation" if defect == "ignores correlation" else "has a wrong correlation"
    because = BECAUSE["misses a mode"] if defect == "misses a mode" else ""
    return (
        f"The guide {verb}{because}: between {one} and {other} of {labels.datum(row)} the "
        f"posterior has {posterior:.2f} and the guide "
        f"{rounded(posterior + found.value[row].item(), found.standard_error[row].item())}"
    )


def narrowest(moments: Moments, row: int, _column: int, defect: Defect) -> str:
    """Which direction is narrowest."""
    return _width_along(moments, row, "narrowest", moments.directions.narrowest, defect)


def widest(moments: Moments, row: int, _column: int, defect: Defect) -> str:
    """Which direction is widest."""
    return _width_along(moments, row, "widest", moments.directions.widest, defect)


def furthest(moments: Moments, row: int, _column: int, defect: Defect) -> str:
    """Which direction is most shifted."""
    one = moments.directions.furthest
    value, error = one.value[row].item(), one.standard_error[row].item()
    return (
        f"In the direction of the largest shift for {_about(moments, row, one)}, the guide's mean "
        f"is {rounded(value, error)} posterior standard deviations off{BECAUSE.get(defect, '')}"
    )


def shape(moments: Moments, row: int, column: int, defect: Defect) -> str:
    """Which marginal has another shape."""
    value, error = (each[row, column].item() for each in moments.shape_error)
    return (
        f"The shape of {moments.labels.place(row, column)} is wrong: once mean and width match, a "
        f"quantile of the guide still lies {rounded(abs(value), error)} standard deviations from "
        f"the posterior's{BECAUSE.get(defect, '')}"
    )


def share(value: float, error: float) -> str:
    """A share and its standard error.

    Examples:
        >>> share(0.5, 0.021)
        '50 ± 2 %'
        >>> share(0.0, 0.0)
        '0 %'
    """
    sure = f" ± {100 * error:.0f}" if error >= 0.005 else ""
    return f"{100 * value:.0f}{sure} %"


def ratio(log_ratio: float, error: float) -> str:
    """A ratio and its standard error, from its logarithm.

    Examples:
        >>> ratio(math.log(0.5), 0.04), ratio(-math.inf, 0.04)
        ('0.50 ± 0.02', '0.00 ± 0.00')
    """
    value = math.exp(log_ratio)
    return rounded(value, value * error)


def _width_along(moments: Moments, row: int, which: str, one: Direction, defect: Defect) -> str:
    value, error = one.value[row].item(), one.standard_error[row].item()
    return (
        f"In its {which} direction for {_about(moments, row, one)}, the guide's standard "
        f"deviation is {ratio(value, error)} times the posterior's{BECAUSE.get(defect, '')}"
    )


def _about(moments: Moments, row: int, direction: Direction) -> str:
    """The datum, and the two coordinates that have most to do with a direction."""
    order = direction.loading[row].abs().argsort(descending=True)[:2].tolist()
    names = " and ".join(moments.labels.coordinates[index] for index in order)
    return f"{moments.labels.datum(row)}, mostly {names}"
