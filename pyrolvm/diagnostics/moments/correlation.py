r"""Correlations that a guide lacks, and the widths that it must have without them.

.. math:: \rho^q_{ij} - \rho^p_{ij}, \qquad
          c_i = \tfrac12 \log \frac{1}{\Sigma_{ii} (\Sigma^{-1})_{ii}}

The second is the log of the posterior's conditional width (all other coordinates held) over its
marginal one. A guide of independent coordinates that maximises the ELBO has the conditional
widths: between c and 0 a narrow marginal is what the missing correlation costs, not a defect of
its own.
The standard error of a correlation is that of its influence
:math:`\tilde z_i \tilde z_j - \rho (\tilde z_i^2 + \tilde z_j^2) / 2`.

Turner & Sahani (2011), Two Problems with Variational Expectation Maximisation for Time-Series
Models, on the widths; Hartlap, Simon & Schneider (2007) on the inverse of a sample covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrolvm.diagnostics.draw_pair import DrawPair, PerCoordinate
from pyrolvm.diagnostics.moments.estimates import Estimates, Standardised
from pyrolvm.diagnostics.significance import critical_value

MOST_COORDINATES = 1000
"""Above so many coordinates covariance matrices are not formed."""


@dataclass(frozen=True, eq=False)
class CorrelationError:
    """The pair of coordinates of each datum whose correlation the guide gets most wrong.

    Args:
        value: Guide's correlation less the posterior's, shape ``(N,)``; 0 for one coordinate, NaN
            where there are too many.
        standard_error: Shape ``(N,)``.
        pair: The two coordinates, shape ``(N, 2)``.
        posterior: The posterior's correlation there, shape ``(N,)``.
    """

    value: Float[Tensor, " data"]
    standard_error: Float[Tensor, " data"]
    pair: Int[Tensor, "data 2"]
    posterior: Float[Tensor, " data"]

    @property
    def estimates(self) -> Estimates:
        """Values with their errors."""
        return Estimates(self.value, self.standard_error)


def correlation_error(guide: Standardised, posterior: Standardised) -> CorrelationError:
    """Find the largest error of a correlation, for each datum.

    Where some errors exceed their Monte Carlo error, the largest of those.

    Args:
        guide: Standardised draws.
        posterior: Standardised draws.

    Returns:
        One pair of coordinates a datum.
    """
    _, size, dim = guide.draws.shape
    if dim == 1 or dim > MOST_COORDINATES:
        nothing = torch.full((size,), 0.0 if dim == 1 else torch.nan, dtype=torch.float64)
        return CorrelationError(nothing, nothing, torch.zeros(size, 2, dtype=torch.long), nothing)
    one, other = torch.triu_indices(dim, dim, offset=1)
    z = critical_value(size * len(one))
    found = []
    for row in range(size):
        here, here_variance = _correlation(guide, row)
        there, there_variance = _correlation(posterior, row)
        error = (here_variance + there_variance).sqrt()[one, other]
        value = (here - there)[one, other]
        worst = _largest(value, error, z)
        place = one[worst], other[worst]
        found.append((value[worst], error[worst], torch.stack(place), there[place]))
    columns = [torch.stack(column) for column in zip(*found, strict=True)]
    return CorrelationError(*columns)


def conditional_log_sd(pair: DrawPair) -> PerCoordinate:
    """Log of the posterior's conditional over its marginal standard deviation, shape ``(N, S)``.

    At most 0; NaN where the reference has too few draws to invert its covariance.
    """
    _, size, dim = pair.reference.shape
    found = torch.full((size, dim), torch.nan, dtype=torch.float64)
    for row, draws in enumerate(pair.reference_size.tolist()):
        shrinkage = (draws - dim - 2) / (draws - 1)
        if shrinkage > 0 and dim <= MOST_COORDINATES:
            covariance = torch.cov(pair.reference[:, row].T).reshape(dim, dim)
            precision = shrinkage * torch.linalg.pinv(covariance, hermitian=True)
            ratio = covariance.diagonal() * precision.diagonal()
            found[row] = -0.5 * ratio.clamp(min=1.0).log()
    return found


def _correlation(sample: Standardised, row: int) -> tuple[Tensor, Tensor]:
    """Correlation matrix of one datum, and the variance of each of its entries."""
    z = sample.draws[:, row]
    square, count = z**2, len(z)
    correlation = z.T @ z / count
    both = square.T @ square / count
    uneven = (square * z).T @ z / count
    fourth = both.diagonal()
    spread = both - correlation * (uneven + uneven.T)
    spread = spread + correlation**2 / 4 * (fourth[:, None] + fourth + 2 * both)
    size = torch.minimum(sample.size[row][:, None], sample.size[row])
    return correlation, spread.clamp(min=0.0) / size


def _largest(value: Tensor, error: Tensor, z: float) -> Tensor:
    counts = value.abs() > z * error
    return torch.where(counts | ~counts.any(), value.abs(), -1.0).argmax()
