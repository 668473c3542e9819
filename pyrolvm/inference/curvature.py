r"""A Gaussian with the curvature of a posterior at a mode, for any program.

.. math:: N(\hat u, H^{-1}), \qquad H = -\nabla^2 \log \tilde p(x, \hat u)
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyrolvm.core.latent_space import Points
from pyrolvm.inference.held_rows import Space

STEPS = 150
RATE = 0.1
LEAST_PRECISION = 0.05
"""In units of the spread of the starting pool, along directions that do not bend down."""


def gaussian_at_mode(space: Space, pool: Points) -> tuple[Tensor, Tensor]:
    """Climb from the likeliest of some points to a mode; mean and covariance there.

    Args:
        space: Of the chosen data.
        pool: Points as wide as the posterior may be, shape ``(K, N, S)``.

    Returns:
        Means ``(N, S)`` and covariances ``(N, S, S)``.
    """
    spread = pool.std(0).clamp_min(1e-12)
    height = space.log_joint(pool)
    best = height.nan_to_num(nan=-torch.inf).argmax(0)
    start = torch.take_along_dim(pool, best[None, :, None], 0)
    with torch.enable_grad():
        shift = torch.zeros_like(start).requires_grad_()
        optimizer = torch.optim.Adam([shift], lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, 1e-4)
        for _ in range(STEPS):
            value = space.log_joint(start + spread * shift)
            (slope,) = torch.autograd.grad(value.sum(), shift)
            shift.grad = -slope.nan_to_num(0.0, 0.0, 0.0)
            optimizer.step()
            schedule.step()
        precision = _precision(space, start, spread, shift)
    values, vectors = torch.linalg.eigh(precision)
    scaled = spread[..., None] * vectors / values.clamp_min(LEAST_PRECISION).sqrt().unsqueeze(-2)
    mode = (start + spread * shift)[0].detach()
    return mode, scaled @ scaled.mT


def _precision(space: Space, start: Tensor, spread: Tensor, shift: Tensor) -> Tensor:
    """Minus the Hessian in units of the spread, shape ``(N, S, S)``."""
    value = space.log_joint(start + spread * shift)
    (slope,) = torch.autograd.grad(value.sum(), shift, create_graph=True)
    slope = slope + 0.0 * shift  # a constant slope has no graph
    rows = [
        torch.autograd.grad(slope[..., s].sum(), shift, retain_graph=True)[0][0]
        for s in range(slope.shape[-1])
    ]
    hessian = torch.stack(rows, 1).nan_to_num(0.0, 0.0, 0.0)
    return -0.5 * (hessian + hessian.mT)
