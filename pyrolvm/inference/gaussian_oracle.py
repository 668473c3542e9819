r"""The best Gaussian for each datum alone, in the unconstrained coordinates of any program.

.. math:: \lambda_n = \arg\max_\lambda \; E_{u \sim N(\lambda)}[\log \tilde p(x_n, u) -
          \log N(u; \lambda)]

All data climb at once from several starts, by reparameterised gradients along the path only, whose
variance vanishes as the Gaussian comes to equal the posterior. Parameters are relative to the
start's own location and factor, so that one step size suits every scale.

References:
    Roeder, Wu & Duvenaud (2017), Sticking the Landing.
    Kucukelbir, Tran, Ranganath, Gelman & Blei (2017), Automatic Differentiation Variational
    Inference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)

from pyrolvm.core.latent_space import Points
from pyrolvm.core.log_densities import CHUNK_ELEMENTS
from pyrolvm.inference.held_rows import Space

PARTICLES = 16
"""Draws of each Gaussian in one step."""
FEW_PARTICLES = 2
"""The same where particles run one after another."""
RATES = (0.1, 0.02)
"""Learning rates of the rounds; each begins at the other's end, and falls to nothing."""
JUDGING_DRAWS = 400
ELEMENTS_A_POINT = 256
"""What one point of one datum is taken to hold in memory, besides its coordinates."""


@dataclass(frozen=True)
class Shape:
    """Which covariances a Gaussian may have.

    Args:
        rank: None for every one, 0 for diagonal ones, else the rank that is added to a diagonal.
    """

    rank: int | None

    @property
    def name(self) -> str:
        """As a person reads it."""
        if self.rank is None:
            return "full-rank Gaussian"
        return f"Gaussian of rank {self.rank}" if self.rank else "diagonal Gaussian"


DIAGONAL, FULL_RANK = Shape(0), Shape(None)


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Gaussians over unconstrained vectors, of any batch shape.

    Args:
        loc: Means, shape ``(*batch, S)``.
        diagonal: Positive numbers: diagonal of the factor, ``(*batch, S)``.
        rest: Strictly lower part of the factor, ``(*batch, S, S)``; for a low rank the further
            factor, ``(*batch, S, rank)``; nothing, ``(*batch, S, 0)``, for diagonal ones.
        shape: Which of these.
    """

    loc: Tensor
    diagonal: Tensor
    rest: Tensor
    shape: Shape

    @classmethod
    def of(cls, tensors: Iterable[Tensor], shape: Shape) -> Gaussians:
        """Gaussians of location, diagonal and rest."""
        loc, diagonal, rest = tensors
        return cls(loc, diagonal, rest, shape)

    def distribution(self) -> Distribution:
        """The distribution, batch shape ``batch``, event shape ``(S,)``."""
        if self.shape.rank is None:
            return MultivariateNormal(self.loc, scale_tril=self.factor(), validate_args=False)
        if self.shape.rank:
            return LowRankMultivariateNormal(
                self.loc, self.rest, self.diagonal.square(), validate_args=False
            )
        return Independent(Normal(self.loc, self.diagonal, validate_args=False), 1)

    def factor(self) -> Tensor:
        """Lower factor of the covariance; the diagonal part where the rank is low."""
        below = self.rest.tril(-1) if self.shape.rank is None else 0.0
        return below + torch.diag_embed(self.diagonal)

    def covariance(self) -> Tensor:
        """Covariances, shape ``(*batch, S, S)``."""
        low_rank = self.rest @ self.rest.mT if self.shape.rank is not None else 0.0
        factor = self.factor()
        return factor @ factor.mT + low_rank

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Location, diagonal and rest."""
        return self.loc, self.diagonal, self.rest


def gaussians_near(loc: Tensor, covariance: Tensor, shape: Shape) -> Gaussians:
    """Members with given means and about the given covariances.

    Args:
        loc: Shape ``(*batch, S)``.
        covariance: Shape ``(*batch, S, S)``; where it is no covariance, its diagonal is taken.
        shape: Which covariances are allowed; a low rank starts from the diagonal.
    """
    variance = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300)
    scale = variance.sqrt()
    if shape.rank is None:
        tril, failed = torch.linalg.cholesky_ex(covariance)
        bad = ((failed != 0) | ~tril.isfinite().all(-1).all(-1))[..., None]
        diagonal = torch.where(bad, scale, tril.diagonal(dim1=-2, dim2=-1))
        return Gaussians(loc, diagonal, torch.where(bad[..., None], 0.0, tril.tril(-1)), shape)
    generator = torch.Generator(loc.device).manual_seed(0)  # equal columns would stay equal
    rest = torch.randn(*loc.shape, shape.rank, generator=generator, dtype=loc.dtype)
    return Gaussians(loc, scale, 0.1 * scale[..., None] * rest, shape)


@dataclass(frozen=True, eq=False)
class GaussianOracle:
    """The best Gaussian of each datum, scored by fresh draws.

    Args:
        gaussians: Batch shape ``(N,)``.
        log_weights: log p(x, u) − log q(u) of its draws, shape ``(K, N)``.
    """

    gaussians: Gaussians
    log_weights: Float[Tensor, "particle data"]


def fit_gaussians(
    space: Space,
    starts: Sequence[Gaussians],
    *,
    steps: int,
    num_particles: int,
) -> GaussianOracle:
    """Fit Gaussians to each datum alone; keep the best, a start itself where none is better.

    Args:
        space: Of the chosen data.
        starts: Batch shape ``(N,)`` each, of one shape of covariance.
        steps: Gradient steps, over all rounds.
        num_particles: Draws K of the final score.
    """
    climbed = _stacked(starts)
    for rate in RATES:
        climbed = _climb(space, climbed, steps // len(RATES), rate)
    candidates = [*starts, *_unstacked(climbed)]
    elbos = torch.stack([_log_weights(space, each, JUDGING_DRAWS).mean(0) for each in candidates])
    best = elbos.nan_to_num(nan=-math.inf).argmax(0)
    chosen = _picked(candidates, best)
    return GaussianOracle(chosen, _log_weights(space, chosen, num_particles))


def _climb(space: Space, start: Gaussians, steps: int, rate: float) -> Gaussians:
    """Stochastic gradient ascent of each ELBO; batch shape ``(J, N)``."""
    if not steps:
        return start
    particles = torch.Size([PARTICLES if space.vectorised else FEW_PARTICLES])
    raw = [torch.zeros_like(each).requires_grad_() for each in start.tensors()]
    trained = raw[:2] if start.shape.rank == 0 else raw
    optimizer = torch.optim.Adam(trained, lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(steps):
            now = _moved(start, raw)
            fixed = Gaussians.of((each.detach() for each in now.tensors()), now.shape)
            points = now.distribution().rsample(particles)
            gain = _log_joint(space, points) - fixed.distribution().log_prob(points)
            loss = -torch.where(gain.isfinite(), gain, 0.0).mean(0).sum()
            gradients = torch.autograd.grad(loss, trained)
            for each, gradient in zip(trained, gradients, strict=True):
                each.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            optimizer.step()
            schedule.step()
        end = _moved(start, raw)
    return Gaussians.of((each.detach() for each in end.tensors()), start.shape)


def _moved(start: Gaussians, raw: Sequence[Tensor]) -> Gaussians:
    """Members at parameters relative to a start; zeros are the start itself."""
    shift, log_scale, mix = raw
    if start.shape.rank is None:
        factor = start.factor()
        inner = mix.tril(-1) + torch.diag_embed(log_scale.exp())
        product = factor @ inner
        loc = start.loc + (factor @ shift[..., None])[..., 0]
        return Gaussians(loc, product.diagonal(dim1=-2, dim2=-1), product.tril(-1), start.shape)
    scale = start.diagonal
    rest = start.rest + scale[..., None] * mix
    return Gaussians(start.loc + scale * shift, scale * log_scale.exp(), rest, start.shape)


def _log_joint(space: Space, points: Tensor) -> Tensor:
    """At points ``(K, J, N, S)``, shape ``(K, J, N)``."""
    return space.log_joint(points.flatten(0, 1)).unflatten(0, points.shape[:2])


def _log_weights(space: Space, gaussians: Gaussians, num_draws: int) -> Tensor:
    """Log weights of draws of Gaussians of batch shape ``(N,)``, shape ``(K, N)``."""
    size, dim = gaussians.loc.shape
    chunk = max(1, CHUNK_ELEMENTS // (size * (dim + ELEMENTS_A_POINT)))
    law = gaussians.distribution()
    parts = []
    for start in range(0, num_draws, chunk):
        points: Points = law.sample(torch.Size([min(chunk, num_draws - start)]))
        parts.append(space.log_joint(points) - law.log_prob(points))
    return torch.cat(parts)


def _stacked(members: Sequence[Gaussians]) -> Gaussians:
    loc, diagonal, rest = (
        torch.stack(parts) for parts in zip(*(each.tensors() for each in members), strict=True)
    )
    return Gaussians(loc, diagonal, rest, members[0].shape)


def _unstacked(members: Gaussians) -> list[Gaussians]:
    return [Gaussians.of(each, members.shape) for each in zip(*members.tensors(), strict=True)]


def _picked(candidates: Sequence[Gaussians], best: Tensor) -> Gaussians:
    """The chosen candidate of each datum."""
    every = _stacked(candidates)
    data = torch.arange(len(best), device=best.device)
    return Gaussians.of((each[best, data] for each in every.tensors()), every.shape)
