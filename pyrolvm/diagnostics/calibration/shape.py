r"""What the shape of a rank histogram says: too narrow, too wide, or shifted, and by how much.

A U says that the guide is too narrow, a dome that it is too wide, a slope that it is shifted.
The mean and the variance of the shares :math:`u = (r + 1/2) / (L + 1)` are compared with those of
uniform ones, and translated: of a Gaussian posterior and a Gaussian guide whose standard deviation
is s times as large, and whose mean lies d posterior standard deviations above,

.. math:: u = \Phi\Big(\frac{Z - d}{s}\Big), \qquad
          E[u] = \Phi(h), \qquad E[u^2] = \Phi(h) - 2 T(h, a), \qquad
          h = \frac{-d}{\sqrt{1 + s^2}}, \quad s^2 = \frac{2 a^2}{1 - a^2}

with Owen's function T. The s and d of other posteriors are those of the Gaussian pair that has
the same two moments.

References:
    Talts et al. (2018), Validating Bayesian Inference Algorithms with Simulation-Based
    Calibration, on the shapes.
    Owen (1956), Tables for Computing Bivariate Normal Probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import ndtri, owens_t

Array = np.ndarray


@dataclass(frozen=True)
class RankShape:
    """Mean and spread of ranks, as scores and as a Gaussian guide would have them.

    Args:
        mean_score: How far the mean lies above a uniform one's, in standard errors; positive
            where the guide is shifted down.
        spread_score: How far the variance lies above, in standard errors; positive where the
            guide is too narrow.
        sd_ratio: Standard deviation of the guide over the posterior's, of the Gaussian pair with
            these ranks; infinite where no Gaussian is wide enough.
        sd_ratio_error: Its standard error.
        shift: Mean of the guide less the posterior's, in posterior standard deviations.
        shift_error: Its standard error.
    """

    mean_score: float
    spread_score: float
    sd_ratio: float
    sd_ratio_error: float
    shift: float
    shift_error: float


def rank_shape(ranks: Int[Array, " simulation"], num_ranks: int) -> RankShape:
    """Read the shape off ranks.

    Args:
        ranks: Whole numbers from 0 to L, shape ``(N,)``.
        num_ranks: Their number of values L + 1.
    """
    shares = (np.asarray(ranks, dtype=np.float64) + 0.5) / num_ranks
    grid = (np.arange(num_ranks) + 0.5) / num_ranks
    mean_score = _score(shares - 0.5, grid - 0.5)
    spread_score = _score((shares - 0.5) ** 2, (grid - 0.5) ** 2)
    moments = np.stack([shares, shares**2])
    centre, covariance = moments.mean(1), np.cov(moments) / shares.size
    ratio, shift = gaussian_pair(*centre)
    errors = _delta_method(centre, covariance)
    return RankShape(mean_score, spread_score, ratio, errors[0], shift, errors[1])


def _delta_method(
    centre: Float[Array, " moment"], covariance: Float[Array, "moment moment"]
) -> tuple[float, float]:
    """Standard errors of the Gaussian pair, from those of the moments; NaN at the limits."""
    steps = 1e-3 * np.sqrt(np.diag(covariance))
    if not steps.all():
        return math.nan, math.nan
    ends = [[gaussian_pair(*(centre + way)) for way in (-d, d)] for d in np.diag(steps)]
    with np.errstate(invalid="ignore"):
        slopes = np.diff(np.array(ends), axis=1)[:, 0] / (2 * steps[:, None])
        errors = np.sqrt(np.einsum("ik,ij,jk->k", slopes, covariance, slopes))
    return float(errors[0]), float(errors[1])


def _score(values: Float[Array, " simulation"], uniform: Float[Array, " rank"]) -> float:
    """Standard errors by which a mean over ranks exceeds that over uniform ones."""
    return float((values.mean() - uniform.mean()) / (uniform.std() / math.sqrt(values.size)))


def gaussian_pair(mean: float, second_moment: float) -> tuple[float, float]:
    """Ratio of standard deviations and shift of the Gaussian pair whose shares have two moments.

    Args:
        mean: Of the shares, strictly between 0 and 1.
        second_moment: Mean of their squares.

    >>> gaussian_pair(1 / 2, 1 / 3)
    (1.0, 0.0)
    """
    h = float(ndtri(mean))
    target = (mean - second_moment) / 2
    widest = float(owens_t(h, 1.0))  # s = infinity: all shares are alike
    if target >= widest:
        return math.inf, math.nan
    if target <= 0:
        return 0.0, math.nan
    a = brentq(lambda a: float(owens_t(h, a)) - target, 0.0, 1.0, xtol=1e-12)
    ratio = math.sqrt(2 * a**2 / (1 - a**2))
    return _tidy(ratio), _tidy(-h * math.sqrt(1 + ratio**2))


def _tidy(value: float) -> float:
    """Take away what the root search leaves, so that -0.0 and 1.0000000001 do not show."""
    return round(value, 9) + 0.0
