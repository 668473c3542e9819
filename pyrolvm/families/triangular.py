r"""Cholesky factors from unconstrained parameters, and back.

.. math:: L = \operatorname{diag}(s) \, (I + T), \qquad s = \operatorname{softplus}(r) + \epsilon

with T strictly lower triangular. Rows of T are relative to the scale of their dimension, so that
narrow and wide posteriors need steps of the same size; the softplus never overflows and the floor
ε never lets a scale vanish.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

SCALE_FLOOR = 1e-6
"""Smallest scale that a family can reach."""


def positive_scale(raw: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map real numbers to scales above the floor."""
    return softplus(raw) + SCALE_FLOOR


def raw_scale(scale: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Invert :func:`positive_scale`; scales below twice the floor are raised to it."""
    above = (scale - SCALE_FLOOR).clamp_min(SCALE_FLOOR)
    return above + torch.log(-torch.expm1(-above))


def num_scale_parameters(dim: int) -> int:
    """Number of free entries of a lower triangular matrix."""
    return dim * (dim + 1) // 2


def scale_tril(raw: Float[Tensor, "*batch P"], dim: int) -> Float[Tensor, "*batch D D"]:
    """Build a Cholesky factor from D raw scales and the entries below the diagonal, row by row."""
    scale, below = positive_scale(raw[..., :dim]), raw[..., dim:]
    rows, columns = torch.tril_indices(dim, dim, -1, device=raw.device).unbind()
    unit = (
        torch.eye(dim, dtype=raw.dtype, device=raw.device)
        .expand(*raw.shape[:-1], dim, dim)
        .clone()
    )
    unit[..., rows, columns] = below
    return scale.unsqueeze(-1) * unit


def raw_of_scale_tril(factor: Float[Tensor, "*batch D D"]) -> Float[Tensor, "*batch P"]:
    """Invert :func:`scale_tril`."""
    dim = factor.shape[-1]
    rows, columns = torch.tril_indices(dim, dim, -1, device=factor.device).unbind()
    scale = factor.diagonal(dim1=-2, dim2=-1)
    return torch.cat([raw_scale(scale), factor[..., rows, columns] / scale[..., rows]], -1)


def whiten(
    factor: Float[Tensor, "*batch D D"], centred: Float[Tensor, "*sample_and_batch D"]
) -> Float[Tensor, "*sample_and_batch D"]:
    """Return L⁻¹ v for many vectors of each factor; sample dimensions stand before the batch."""
    batch = factor.dim() - 2
    lead = centred.shape[: centred.dim() - 1 - batch]
    columns = centred.reshape(-1, *centred.shape[len(lead) :]).movedim(0, -1)
    solved = torch.linalg.solve_triangular(factor, columns, upper=False)
    return solved.movedim(-1, 0).reshape(centred.shape)


def colour(
    factor: Float[Tensor, "*batch D D"], white: Float[Tensor, "*sample_and_batch D"]
) -> Float[Tensor, "*sample_and_batch D"]:
    """Return L v for many vectors of each factor; sample dimensions stand before the batch."""
    batch = factor.dim() - 2
    lead = white.shape[: white.dim() - 1 - batch]
    columns = white.reshape(-1, *white.shape[len(lead) :]).movedim(0, -1)
    made = factor @ columns
    return made.movedim(-1, 0).reshape(*lead, *made.shape[:-1])
