r"""The directions in which a guide is furthest off: narrowest, widest, most shifted.

.. math:: \Sigma_q v = \lambda \, \Sigma_p v, \quad
          \tfrac12 \log \lambda = \log \frac{\mathrm{sd}_q(v^\top z)}{\mathrm{sd}_p(v^\top z)};
          \qquad v = \Sigma_p^{-1} (\mu_q - \mu_p)

The least and the greatest λ, and the direction of the largest shift in posterior standard
deviations (Mahalanobis distance): all marginals may look right where a direction across them is
far off. Sample eigenvalues overstate: among many directions one always looks narrow. So each
direction is found with one half of the draws and measured with the other, twice, which gives an
estimate that is never too extreme on average and has the standard error of a single width or
mean.

Stone (1974), Cross-Validatory Choice and Assessment of Statistical Predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.diagnostics.draw_pair import DrawPair, PerCoordinate, whitening
from pyrolvm.diagnostics.moments.correlation import MOST_COORDINATES
from pyrolvm.diagnostics.moments.estimates import (
    Estimates,
    Standardised,
    log_sd_ratio,
    mean_error,
)

NUM_BLOCKS = 20
"""Blocks of draws that go to one half and the other in turn."""


@dataclass(frozen=True, eq=False)
class Direction:
    """One extreme direction of each datum.

    Args:
        value: What the guide gets wrong along it, shape ``(N,)``: the log of its over the
            posterior's standard deviation, or the shift in posterior standard deviations; NaN
            where there are too many coordinates.
        standard_error: Shape ``(N,)``.
        loading: Correlation of each coordinate with the projection on it, under the posterior,
            shape ``(N, S)``: which coordinates it is about.
    """

    value: Float[Tensor, " data"]
    standard_error: Float[Tensor, " data"]
    loading: PerCoordinate

    @property
    def estimates(self) -> Estimates:
        """Values with their errors."""
        return Estimates(self.value, self.standard_error)


class Directions(NamedTuple):
    """The three directions in which a guide is furthest off."""

    narrowest: Direction
    widest: Direction
    furthest: Direction


def extreme_directions(pair: DrawPair) -> Directions:
    """Find and measure the narrowest, the widest and the most shifted direction of each datum.

    Args:
        pair: Draws of guide and posterior.

    Returns:
        Three directions.
    """
    _, size, dim = pair.reference.shape
    if dim > MOST_COORDINATES:
        nothing = torch.full((size, dim), torch.nan, dtype=torch.float64)
        return Directions(*[Direction(nothing[:, 0], nothing[:, 0], nothing)] * 3)
    found = [_of_datum(pair, row) for row in range(size)]
    value, error, loading = (torch.stack(column, 1) for column in zip(*found, strict=True))
    return Directions(*(Direction(value[end], error[end], loading[end]) for end in range(3)))


def _of_datum(pair: DrawPair, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Value, error and loadings of the three directions, shape ``(3,)`` and ``(3, S)``."""
    guide, posterior = pair.guide[:, row], pair.reference[:, row]
    size = float(pair.reference_size[row]) / 2
    (one, other), (mine, rest) = _halves(guide), _halves(posterior)
    folds = [
        _measured(_directions(one, mine), other, rest, size),
        _measured(_directions(other, rest), one, mine, size),
    ]
    value = torch.stack([fold.value for fold in folds]).mean(0)
    error = torch.stack([fold.standard_error for fold in folds]).square().sum(0).sqrt() / 2
    projected = posterior @ _directions(guide, posterior)
    loading = torch.corrcoef(torch.cat([projected, posterior], 1).T)[:3, 3:]
    return value, error, loading


def _halves(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Every other block of draws: long blocks, for draws of a chain depend on each other."""
    odd = torch.arange(len(draws)) * NUM_BLOCKS // len(draws) % 2 == 1
    return draws[~odd], draws[odd]


def _directions(guide: Tensor, posterior: Tensor) -> Float[Tensor, "coordinate 3"]:
    """Narrowest, widest and most shifted direction in a sample."""
    white = whitening(posterior)
    within = guide @ white
    _, vectors = torch.linalg.eigh(torch.cov(within.T).reshape(len(white), -1))
    shift = within.mean(0) - (posterior @ white).mean(0)
    return white @ torch.stack([vectors[:, 0], vectors[:, -1], shift], 1)


def _measured(directions: Tensor, guide: Tensor, posterior: Tensor, size: float) -> Estimates:
    """Widths along the first two directions and the shift along the third, with errors."""
    along = [
        Standardised.of((draws @ directions)[:, None], torch.full((1, 3), float(count)))
        for draws, count in ((guide, len(guide)), (posterior, size))
    ]
    widths, shifts = log_sd_ratio(*along), mean_error(*along)
    value, error = (
        torch.cat([one[0, :2], other[0, 2:]]) for one, other in zip(widths, shifts, strict=True)
    )
    return Estimates(value, error)
