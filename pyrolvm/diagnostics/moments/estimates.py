r"""Errors of location, width and marginal shape in posterior standard deviations, with errors.

Of draws :math:`z_q` of the guide and :math:`z_p` of the posterior, for each coordinate,

.. math:: m = \frac{\bar z_q - \bar z_p}{s_p}, \qquad
          \ell = \log \frac{s_q}{s_p}, \qquad
          h = Q_q(u) - Q_p(u),

Q(u) a quantile after each sample was standardised by its own mean and width. An estimate moves
with one more draw by its influence ψ, so that

.. math:: \mathrm{se}^2 = \frac{\mathrm{var}\,\psi_q}{K} + \frac{\mathrm{var}\,\psi_p}{R},

R the effective size of the reference (delta method). Fourth moments are in it, normality is not.

Hampel (1974), The Influence Curve and Its Role in Robust Estimation; Hall & Sheather (1988), On
the Distribution of a Studentized Quantile, for the density at a quantile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyrolvm.diagnostics.draw_pair import DrawPair, Draws, PerCoordinate

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles at which shapes are compared."""


class Estimates(NamedTuple):
    """Figures and their standard errors, of the same shape."""

    value: Tensor
    standard_error: Tensor


@dataclass(frozen=True, eq=False)
class Standardised:
    """Draws with their own mean and width taken out; zeros where a coordinate does not vary.

    Args:
        mean: Shape ``(N, S)``.
        scale: Standard deviation, shape ``(N, S)``.
        draws: Shape ``(K, N, S)``.
        size: Number of (effective) draws, shape ``(N, S)``.
    """

    mean: PerCoordinate
    scale: PerCoordinate
    draws: Draws
    size: PerCoordinate

    @classmethod
    def of(cls, draws: Draws, size: PerCoordinate) -> Standardised:
        """Standardise draws."""
        mean, scale = draws.mean(0), draws.std(0)
        varies = draws.amax(0) > draws.amin(0)
        scale = torch.where(varies, scale, 0.0)
        return cls(mean, scale, (draws - mean) / torch.where(varies, scale, 1.0), size)


def standardised(pair: DrawPair) -> tuple[Standardised, Standardised]:
    """Draws of guide and posterior, each standardised by itself."""
    size = torch.full_like(pair.ess, float(len(pair.guide)))
    return Standardised.of(pair.guide, size), Standardised.of(pair.reference, pair.ess)


def mean_error(guide: Standardised, posterior: Standardised) -> Estimates:
    """Guide's mean less the posterior's, in posterior standard deviations, shape ``(N, S)``."""
    value = (guide.mean - posterior.mean) / posterior.scale
    there = -posterior.draws - value * (posterior.draws**2 - 1) / 2
    here = guide.draws * guide.scale / posterior.scale
    return Estimates(value, _error(guide, here, posterior, there))


def log_sd_ratio(guide: Standardised, posterior: Standardised) -> Estimates:
    """Log of the guide's standard deviation over the posterior's, shape ``(N, S)``.

    Negative is too narrow; −∞ for a point mass, whose standard error is the posterior's.
    """
    value = guide.scale.log() - posterior.scale.log()
    here, there = ((each.draws**2 - 1) / 2 for each in (guide, posterior))
    here = torch.where(guide.scale > 0, here, 0.0)
    return Estimates(value, _error(guide, here, posterior, there))


def shape_error(guide: Standardised, posterior: Standardised) -> Estimates:
    """Largest difference of a quantile after matching mean and width, shape ``(N, S)``.

    Of the quantiles at :data:`LEVELS` the one that differs most: guide less posterior, in standard
    deviations. NaN for a point mass, which has no shape.
    """
    (here, here_error), (there, there_error) = (_quantiles(each) for each in (guide, posterior))
    difference = here - there
    which = difference.abs().argmax(0, keepdim=True)
    error = (here_error**2 + there_error**2).sqrt()
    value, error = (each.gather(0, which)[0] for each in (difference, error))
    return Estimates(torch.where(guide.scale > 0, value, torch.nan), error)


def _quantiles(sample: Standardised) -> Estimates:
    """Quantiles of a standardised sample and their standard errors, shape ``(level, N, S)``."""
    ordered = sample.draws.sort(0).values
    values, errors = [], []
    for level in LEVELS:
        half = _half_window(level, float(sample.size.min()))
        low, value, high = (_at(ordered, each) for each in (level - half, level, level + half))
        sparsity = (high - low) / (2 * half)
        below = (sample.draws <= value).double()
        influence = sparsity * (level - below) - sample.draws - value * (sample.draws**2 - 1) / 2
        values.append(value)
        errors.append((influence.var(0, correction=0) / sample.size).sqrt())
    return Estimates(torch.stack(values), torch.stack(errors))


def _half_window(level: float, size: float) -> float:
    """Hall and Sheather's window of levels, cut so that it stays within half way to the edge."""
    z = torch.special.ndtri(torch.tensor(level, dtype=torch.float64)).item()
    density = torch.exp(torch.tensor(-(z**2) / 2)).item() / (2 * torch.pi) ** 0.5
    width = size ** (-1 / 3) * 1.96 ** (2 / 3) * (1.5 * density**2 / (2 * z**2 + 1)) ** (1 / 3)
    return min(width, min(level, 1 - level) / 2)


def _at(ordered: Tensor, level: float) -> Tensor:
    """Quantile of sorted draws, linear between neighbours."""
    place = level * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _error(guide: Standardised, here: Tensor, posterior: Standardised, there: Tensor) -> Tensor:
    """Standard error from the influence of each draw of guide and posterior."""
    return (
        here.var(0, correction=0) / guide.size + there.var(0, correction=0) / posterior.size
    ).sqrt()
