r"""Laplace's approximation around the modes that draws of the prior lead to.

.. math:: p(z \mid x) \approx \sum_c \pi_c \, N(\hat z_c, H_c^{-1}), \qquad
          H_c = -\nabla^2 \log p(x, \hat z_c), \quad
          \pi_c \propto p(x, \hat z_c) \, |H_c|^{-1/2}

An encoder can put a datum into a mode that holds next to none of the posterior's mass, and a local
search never leaves it. This start looks over the whole prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Model, evaluating, prior_predictive
from pyrolvm.core.data import Data
from pyrolvm.core.log_densities import CHUNK_ELEMENTS
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.tracing import log_density_at, log_joint_at

LEAST_PRECISION = 1e-2
CHUNK_ROWS = 64
STARTS_A_MODE = 8
APART = 3.0
"""Standard deviations that two modes are apart, at least."""
JITTER = 0.4
TEMPER = 0.3
"""Power of the joint density in proportion to which starts are spread."""


@dataclass(frozen=True)
class Modes:
    """C Gaussians around modes of each of N posteriors, the one of the largest mass first.

    Args:
        loc: Means, shape ``(N, C, S)``.
        scale_tril: Lower Cholesky factors of the covariances, ``(N, C, S, S)``.
        log_weight: Logarithms of their shares of the mass, ``(N, C)``.
    """

    loc: Tensor
    scale_tril: Tensor
    log_weight: Tensor


def laplace_approximation(
    model: Model,
    x: Float[Tensor, "data obs_dim"],
    num_modes: int = 1,
    *,
    seed: int = 0,
    num_draws: int = 1000,
    num_steps: int = 100,
) -> Modes:
    """Find modes of each posterior and the Gaussians with their curvatures.

    Args:
        model: A model with one latent site.
        x: Observations, shape ``(N, obs_dim)``.
        num_modes: Number C of Gaussians; where fewer modes are found, some share one.
        seed: Of the prior draws.
        num_draws: Draws of the prior among which each datum takes its starts: the best one for a
            single mode, 8 for each of several, the likelier ones rather.
        num_steps: Steps uphill from there (Adam), before one of Newton's.

    Returns:
        The Gaussians in double precision; directions along which the log density does not bend
        down get a precision of 0.01.
    """
    site = model.latent_sites[0]
    with own_randomness(seed):
        draws = prior_predictive(model, num_draws).latents[site]
        with evaluating(model):
            starts = _starts(model, x.double(), site, draws, num_modes)
            parts = zip(x.double().split(CHUNK_ROWS), starts.split(CHUNK_ROWS, 1), strict=True)
            found = [_uphill(model, rows, site, z, num_steps) for rows, z in parts]
    loc, scale_tril, log_mass = zip(*found, strict=True)
    return _distinct(_by_datum(loc), _by_datum(scale_tril), _by_datum(log_mass), num_modes)


def _by_datum(parts: Sequence[Tensor]) -> Tensor:
    """Join parts of the data, and put the data first."""
    return torch.cat(list(parts), 1).transpose(0, 1)


def _starts(model: Model, x: Tensor, site: str, draws: Tensor, num_modes: int) -> Tensor:
    """Take for each datum draws of the prior with a large log p(x, z), ``(M, N, S)``."""
    number = 1 if num_modes == 1 else min(len(draws), STARTS_A_MODE * num_modes)
    rows = max(1, CHUNK_ELEMENTS // (len(draws) * (x.shape[-1] + 256)))

    def best(part: Tensor) -> Tensor:
        every = draws[:, None].expand(-1, len(part), -1)
        densities = log_density_at(model, Data.of(part), {site: every}, -2)
        score = torch.stack(torch.broadcast_tensors(*densities.values())).sum(0)
        if number > 1:  # without replacement (Gumbel), so that light modes get starts as well
            score = TEMPER * score - densities[site]
            score = score - torch.empty_like(score).exponential_().log()
        return score.topk(number, 0).indices

    return draws[torch.cat([best(part) for part in x.split(rows)], 1)]


def _uphill(
    model: Model, x: Tensor, site: str, start: Tensor, num_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb from M starts for each datum; mean, factor and log mass of the Gaussian there."""
    rows = Data.of(x)

    def log_joint(z: Tensor) -> Tensor:
        return log_joint_at(model, rows, {site: z})

    z = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps, 1e-4)
    with torch.enable_grad():
        for _ in range(num_steps):
            optimizer.zero_grad()
            (-log_joint(z).sum()).backward(inputs=[z])
            optimizer.step()
            schedule.step()
        value = log_joint(z)
        (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        columns = [
            torch.autograd.grad(each.sum(), z, retain_graph=True)[0] for each in slope.unbind(-1)
        ]
    precision = -torch.stack(columns, -1)
    values, vectors = torch.linalg.eigh(0.5 * (precision + precision.mT))
    spread = vectors / values.clamp_min(LEAST_PRECISION)[..., None, :]
    covariance = spread @ vectors.mT
    newton = (z + (covariance @ slope[..., None]).squeeze(-1)).detach()
    peak, value = log_joint(newton), value.detach()
    better = peak > value
    loc = torch.where(better[..., None], newton, z.detach())
    scale_tril = torch.linalg.cholesky(covariance)
    log_volume = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    dims = 0.5 * z.shape[-1] * math.log(2 * math.pi)
    return loc, scale_tril, torch.where(better, peak, value) + log_volume + dims


def _distinct(loc: Tensor, scale_tril: Tensor, log_mass: Tensor, number: int) -> Modes:
    """Choose for each datum the heaviest Gaussians that are apart; shapes ``(N, M, …)``.

    Where too few are apart, the heavier ones are split into copies a little aside.
    """
    at = torch.arange(len(loc), device=loc.device)
    left, times = log_mass.clone(), torch.zeros_like(log_mass)
    chosen, is_copy = [], []
    for _ in range(number):
        none_left = left.amax(1) == -torch.inf
        shared = (log_mass - (times + 1).log()).masked_fill(times == 0, -torch.inf)
        index = torch.where(none_left, shared.argmax(1), left.argmax(1))
        times[at, index] += 1
        left[at, index] = -torch.inf
        left = left.masked_fill(_distance(loc, scale_tril, index) < APART, -torch.inf)
        chosen.append(index)
        is_copy.append(none_left)
    picked, copied = torch.stack(chosen, 1), torch.stack(is_copy, 1)
    locs, factors = loc[at[:, None], picked], scale_tril[at[:, None], picked]
    jitter = torch.randn(locs.shape[1:], generator=torch.Generator().manual_seed(0)).to(locs)
    aside = JITTER * copied[..., None] * (factors @ jitter[..., None]).squeeze(-1)
    weights = (log_mass.gather(1, picked) - times.gather(1, picked).log()).log_softmax(1)
    return Modes(locs + aside, factors, weights)


def _distance(loc: Tensor, scale_tril: Tensor, index: Tensor) -> Tensor:
    """Standard deviations between one Gaussian of each datum and all of them, ``(N, M)``."""
    at = torch.arange(len(loc), device=loc.device)
    offset = (loc - loc[at, index][:, None])[..., None]
    factor = scale_tril[at, index][:, None].expand_as(scale_tril)
    return torch.linalg.solve_triangular(factor, offset, upper=False).norm(dim=(-2, -1))
