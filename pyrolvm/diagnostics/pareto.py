r"""Fit of the generalised Pareto distribution to many tails at once.

.. math:: \Pr(X > x) = (1 + k x / \sigma)^{-1/k}, \qquad x > 0

Zhang & Stephens (2009), A New and Efficient Estimation Method for the Generalized Pareto
Distribution: the likelihood is profiled over b = −k/σ and averaged over a grid of b. As in Vehtari
et al. (2024), Pareto Smoothed Importance Sampling, the shape is then pulled towards 0.5 with the
weight of ten observations.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyrolvm.diagnostics.log_weights import PerDatum

Tails = Float[Tensor, "data tail"]
"""Exceedances over a cutoff, one row a datum, ascending; rows with fewer start with zeros."""

Counts = Int[Tensor, "data"]
"""Numbers of exceedances, shape ``(N,)``."""

PRIOR_WEIGHT = 10.0
PRIOR_SHAPE = 0.5
BASE_GRID = 30

FACTORS = 8
"""Factors 1 − b x that are multiplied before a logarithm is taken."""

WIDEST = 1e30
"""Largest exceedance, in quartiles, up to which no product of so many factors overflows."""


def fit_generalized_pareto(exceedances: Tails, counts: Counts) -> tuple[PerDatum, PerDatum]:
    r"""Shape and scale of each row's tail.

    Args:
        exceedances: Shape ``(N, M)``, float64, ascending, padded in front with zeros.
        counts: How many exceedances of each row are not padding, shape ``(N,)``, at least 1.

    Returns:
        Shape k and scale σ, shape ``(N,)`` each; NaN where the fit overflows.

    References:
        Zhang & Stephens (2009), Technometrics 51(3).
    """
    width = exceedances.shape[1]
    counts = counts[:, None]
    size = counts.double()
    quartile = exceedances.gather(1, width - counts + (size / 4 + 0.5).long().clamp(min=1) - 1)
    grid, inside = _grid(size, math.isqrt(width))
    grid = grid / (3.0 * quartile) + 1.0 / exceedances[:, -1:]

    # Padding is 0 and adds log1p(0) = 0 to the sum, so only the divisor has to know the true size.
    wide = (exceedances[:, -1:] > WIDEST * quartile).any()
    shapes = (_sums if wide else _sums_of_products)(grid, exceedances) / size
    profile = size * (torch.log(-grid / shapes) - shapes - 1.0)
    weights = profile.masked_fill(~inside, -math.inf).softmax(1)
    weights = weights.masked_fill(weights < 10 * torch.finfo(weights.dtype).eps, 0.0)
    weights = weights / weights.sum(1, keepdim=True)

    slope = (weights * grid.masked_fill(~inside, 0.0)).sum(1, keepdim=True)
    shape = torch.log1p(-slope * exceedances).sum(1, keepdim=True) / size
    scale = -shape / slope
    shape = (size * shape + PRIOR_WEIGHT * PRIOR_SHAPE) / (size + PRIOR_WEIGHT)
    return shape.squeeze(1), scale.squeeze(1)


def _sums(grid: Tensor, exceedances: Tails) -> Tensor:
    """Sum of log(1 − b x) over the exceedances of each row, for each b of the grid."""
    return torch.log1p(-grid[:, :, None] * exceedances[:, None, :]).sum(-1)


def _sums_of_products(grid: Tensor, exceedances: Tails) -> Tensor:
    """The same with one logarithm for eight factors, which do not overflow in tails in reach."""
    padded = torch.nn.functional.pad(exceedances, (-exceedances.shape[1] % FACTORS, 0))
    negative, one = -grid[:, :, None], grid.new_ones(())
    first, *others = padded[:, None].chunk(FACTORS, -1)
    product = torch.addcmul(one, negative, first)
    for other in others:
        product *= torch.addcmul(one, negative, other)
    return product.log_().sum(-1)


def _grid(size: Tensor, root: int) -> tuple[Tensor, Tensor]:
    """Unscaled grid of b for each row, and which of its points belong to the row's tail length."""
    points = torch.arange(1, BASE_GRID + root + 1, dtype=size.dtype, device=size.device)
    length = BASE_GRID + size.sqrt().floor()
    return 1.0 - torch.sqrt(length / (points - 0.5)), points <= length


def generalized_pareto_quantile(probabilities: Tails, shape: PerDatum, scale: PerDatum) -> Tails:
    """Quantiles of the fitted tails.

    Args:
        probabilities: Between 0 and 1, shape ``(N, M)``.
        shape: k, shape ``(N,)``.
        scale: σ, shape ``(N,)``.

    Returns:
        Exceedances, shape ``(N, M)``.

    Examples:
        >>> half = torch.tensor([[0.5]], dtype=torch.float64)
        >>> generalized_pareto_quantile(half, torch.tensor([1.0]), torch.tensor([2.0]))
        tensor([[2.]], dtype=torch.float64)
    """
    exponential = -torch.log1p(-probabilities)
    shape, scale = shape[:, None], scale[:, None]
    return scale * torch.where(shape == 0.0, exponential, torch.expm1(shape * exponential) / shape)
