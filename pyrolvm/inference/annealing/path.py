r"""Geometric paths from a density that can be drawn from to the posterior.

.. math:: \log f_\beta(u) = \log f_0(u) + \beta \, r(u), \qquad
          f_0(u) + r(u) = \log \tilde p(x, u), \qquad 0 \le \beta \le 1

f_0 is normalised: the prior, so that r is the log likelihood, or a Gaussian fitted to draws.

References:
    Neal (2001), Annealed Importance Sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MultivariateNormal

from pyrolvm.core.latent_space import LatentSpace, Points
from pyrolvm.core.log_densities import CHUNK_ELEMENTS

PerChain = Float[Tensor, "chain data"]


class AnnealingPath(Protocol):
    """Where annealing starts, and what it adds."""

    @property
    def space(self) -> LatentSpace:
        """The latent space of the model."""
        ...

    def draw(self, num_chains: int) -> Points:
        """Independent draws of the start, shape ``(K, N, S)``."""
        ...

    def terms(self, points: Points) -> tuple[PerChain, PerChain]:
        """Log f_0 and r in nats, shape ``(K, N)`` each; differentiable in the points."""
        ...


@dataclass(frozen=True)
class PriorPath:
    """Annealing of the likelihood, from the prior on.

    Args:
        space: The latent space of the model.
    """

    space: LatentSpace

    def draw(self, num_chains: int) -> Points:
        """Independent draws of the prior, shape ``(K, N, S)``."""
        return self.space.prior_points(num_chains)

    def terms(self, points: Points) -> tuple[PerChain, PerChain]:
        """Log prior density and log likelihood in nats, shape ``(K, N)`` each."""
        return self.space.log_terms(points)


@dataclass(frozen=True)
class GaussianPath:
    """Annealing from a Gaussian for each datum.

    Args:
        space: The latent space of the model.
        start: Batch shape ``(N,)``, event shape ``(S,)``.
    """

    space: LatentSpace
    start: MultivariateNormal

    def draw(self, num_chains: int) -> Points:
        """Independent draws of the Gaussian, shape ``(K, N, S)``."""
        return self.start.sample((num_chains,))

    def terms(self, points: Points) -> tuple[PerChain, PerChain]:
        """Log Gaussian density and log joint minus it, in nats, shape ``(K, N)`` each."""
        base = self.start.log_prob(points)
        return base, self.space.log_joint(points) - base


def gaussian_of(draws: Points) -> MultivariateNormal:
    """Gaussian with mean and covariance of draws, each variance a little larger.

    Args:
        draws: Shape ``(M, N, S)``; a small multiple of the identity keeps covariances positive
            where there are few.
    """
    centre = draws.mean(0)
    rest = (draws - centre).movedim(0, 1)
    covariance = rest.mT @ rest / (len(draws) - 1)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    floor = 1e-10 * variance.mean(-1, keepdim=True) + 1e-20
    ridge = variance * (draws.shape[-1] / len(draws)) + floor
    return MultivariateNormal(centre, covariance + torch.diag_embed(ridge))


@dataclass(frozen=True)
class State:
    """Chains at their points, with all that a path says there.

    Args:
        points: Shape ``(K, N, S)``.
        base: Log f_0 in nats, shape ``(K, N)``.
        rest: r in nats, shape ``(K, N)``.
        base_slope: Gradient of log f_0, shape ``(K, N, S)``.
        rest_slope: Gradient of r, shape ``(K, N, S)``.
    """

    points: Points
    base: PerChain
    rest: PerChain
    base_slope: Points
    rest_slope: Points

    def log_density(self, beta: Float[Tensor, " data"]) -> PerChain:
        """Log f_β in nats, shape ``(K, N)``; β has shape ``(N,)`` and is above 0."""
        return self.base + beta * self.rest

    def slope(self, beta: Float[Tensor, " data"]) -> Points:
        """Gradient of log f_β, shape ``(K, N, S)``."""
        return self.base_slope + beta[:, None] * self.rest_slope

    def where(self, mask: Float[Tensor, "chain data"], other: State) -> State:
        """Take these chains where a mask of shape ``(K, N)`` holds, the others elsewhere."""
        wide = mask[..., None]
        return State(
            torch.where(wide, self.points, other.points),
            torch.where(mask, self.base, other.base),
            torch.where(mask, self.rest, other.rest),
            torch.where(wide, self.base_slope, other.base_slope),
            torch.where(wide, self.rest_slope, other.rest_slope),
        )

    def chosen(self, ancestors: Tensor) -> State:
        """Take the chains with these indices, shape ``(K, N)``."""
        wide = ancestors[..., None].expand_as(self.points)
        return State(
            self.points.gather(0, wide),
            self.base.gather(0, ancestors),
            self.rest.gather(0, ancestors),
            self.base_slope.gather(0, wide),
            self.rest_slope.gather(0, wide),
        )


def evaluate(path: AnnealingPath, points: Points) -> State:
    """Run the model at points, some chains at a time, so that memory stays bounded."""
    parts = [_evaluate(path, part) for part in points.split(_chains_at_once(path.space))]
    if len(parts) == 1:
        return parts[0]
    fields = ("points", "base", "rest", "base_slope", "rest_slope")
    return State(*(torch.cat([getattr(part, field) for part in parts]) for field in fields))


def chain_elements(space: LatentSpace) -> int:
    """Numbers that one chain of all data fills, roughly."""
    given = sum(tensor.numel() for _, tensor in space.data.items())
    return 8 * given + space.num_data * (8 * space.dim + 256)


def _chains_at_once(space: LatentSpace) -> int:
    return max(1, CHUNK_ELEMENTS // chain_elements(space))


def _evaluate(path: AnnealingPath, points: Points) -> State:
    with torch.enable_grad():
        at = points.detach().requires_grad_()
        base, rest = path.terms(at)
        slopes = _slope(base, at, keep=True), _slope(rest, at, keep=False)
    return State(points, base.detach(), rest.detach(), *slopes)


def _slope(value: Tensor, at: Tensor, keep: bool) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(at)
    (found,) = torch.autograd.grad(value.sum(), at, retain_graph=keep, allow_unused=True)
    return torch.zeros_like(at) if found is None else found
