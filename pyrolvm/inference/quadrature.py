r"""The evidence of a smooth model with one or two latents, by quadrature over all of its prior.

.. math:: p(x) = \int p(x \mid z) \, p(z) \, dz \approx
          h^S |L| \sum_{w \in h \mathbb{Z}^S, \, |w_i| \le R} p(x, m + L w)

with m and L L' the prior's mean and covariance.
The trapezoid rule converges faster than any power of h for smooth integrands that vanish at the
ends; a rule with half as many points on each axis tells how far it is. No mode can be overlooked
that is wider than a step.

References:
    Trefethen & Weideman (2014), The Exponentially Convergent Trapezoidal Rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import Bernoulli, Independent, Normal, TorchDistribution
from torch import Tensor
from torch.nn.functional import softplus

from pyrolvm.core import ExplicitJoint
from pyrolvm.core.log_densities import CHUNK_ELEMENTS
from pyrolvm.core.pairing import offers

REACH = 8.5
"""Prior standard deviations that the grid spans to each side; less than 1e-16 lies beyond."""
FIRST_POINTS = 129
MOST_POINTS = {1: 2**21, 2: 2**21}
TOLERANCE = 1e-6
ACCEPTED = 1e-3
MAX_WORK = 2e10


def is_in_reach(model: Any) -> bool:
    """Whether quadrature can be tried: prior and likelihood at hand, one or two latents."""
    return offers(model, ExplicitJoint) and model.latent_dim in MOST_POINTS


def quadrature_evidence(
    model: ExplicitJoint, x: Float[Tensor, "data obs_dim"]
) -> tuple[Float[Tensor, " data"], Float[Tensor, " data"]] | None:
    """Integrate the joint density over z for each datum, on ever finer grids until they agree.

    Args:
        model: A model with one or two latents, in double precision; its prior has moments.
        x: Observations, shape ``(N, obs_dim)``.

    Returns:
        log p(x) in nats and how much the last halving of the step changed it, shape ``(N,)`` each;
        None where no affordable grid is fine enough.
    """
    dims, points = model.latent_dim, FIRST_POINTS
    before: Tensor | None = None
    change: Tensor | None = None
    with torch.no_grad():
        while _affordable(points**dims, x, dims):
            value = _on_grid(model, x, points)
            change = None if before is None else (value - before).abs()
            if change is not None and bool((change <= TOLERANCE).all()):
                return value, change
            before, points = value, 2 * points - 1
    if before is None or change is None or not bool((change <= ACCEPTED).all()):
        return None
    return before, change


def _affordable(points: int, x: Tensor, dims: int) -> bool:
    return points <= MOST_POINTS[dims] and points * x.numel() <= MAX_WORK


def _on_grid(model: ExplicitJoint, x: Tensor, points: int) -> Tensor:
    """Log of the sum over one grid, streamed over its points, shape ``(N,)``."""
    step = 2 * REACH / (points - 1)
    axis = torch.linspace(-REACH, REACH, points, dtype=x.dtype, device=x.device)
    total = x.new_full((len(x),), -torch.inf)
    prior = model.prior()
    factor = _factor(prior)
    for w in _chunks(axis, model.latent_dim, max(1, CHUNK_ELEMENTS // (len(x) + 512))):
        z = prior.mean + w @ factor.mT
        density = log_likelihoods(model.likelihood(z), x) + prior.log_prob(z)[:, None]
        total = torch.logaddexp(total, density.logsumexp(0))
    return total + model.latent_dim * math.log(step) + factor.diagonal().log().sum()


def _chunks(axis: Tensor, dims: int, size: int) -> Iterator[Tensor]:
    """All points of a square grid, some at a time, shape ``(P, S)`` each."""
    if dims == 1:
        yield from axis[:, None].split(size)
        return
    rows = max(1, size // len(axis))
    for part in axis.split(rows):
        yield torch.cartesian_prod(part, axis)


def _factor(prior: TorchDistribution) -> Tensor:
    """Lower factor of the prior's covariance."""
    scale_tril = getattr(prior, "scale_tril", None)
    return torch.diag(prior.stddev) if scale_tril is None else scale_tril


def log_likelihoods(
    likelihood: TorchDistribution, x: Float[Tensor, "data obs_dim"]
) -> Float[Tensor, "points data"]:
    """Log p(x | z) of every datum at every point.

    Args:
        likelihood: Batch shape ``(P,)``.
        x: Observations, shape ``(N, obs_dim)``.

    Returns:
        Nats, shape ``(P, N)``.
    """
    base = likelihood.base_dist if isinstance(likelihood, Independent) else None
    if isinstance(base, Bernoulli):
        return base.logits @ x.mT - softplus(base.logits).sum(-1, keepdim=True)
    if isinstance(base, Normal):
        scale = base.scale.broadcast_to(base.loc.shape)
        if torch.equal(scale, scale[:1].expand_as(scale)):
            return _log_normals(base.loc, scale[0], x)
    return likelihood.expand((1, *likelihood.batch_shape)).log_prob(x[:, None]).mT


def _log_normals(loc: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    """Densities of independent normals with common scales, by one matrix product."""
    centre = x.mean(0)  # differences of large squares would lose digits
    data, means = (x - centre) / scale, (loc - centre) / scale
    squares = means.square().sum(-1)[:, None] + data.square().sum(-1) - 2 * means @ data.mT
    normaliser = scale.log().sum() + 0.5 * len(scale) * math.log(2 * math.pi)
    return -0.5 * squares.clamp_min(0.0) - normaliser
