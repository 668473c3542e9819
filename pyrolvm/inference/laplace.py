r"""Laplace's approximation around the best mode that draws of the prior lead to.

.. math:: p(z \mid x) \approx N(\hat z, H^{-1}), \qquad \hat z = \arg\max_z \log p(x, z), \quad
          H = -\nabla^2 \log p(x, \hat z)

An encoder can put a datum into a mode that holds next to none of the posterior's mass, and a local
search never leaves it. This start looks over the whole prior.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Model, evaluating, prior_predictive
from pyrolvm.core.data import Data
from pyrolvm.core.log_densities import CHUNK_ELEMENTS
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.tracing import log_joint_at

LEAST_PRECISION = 1e-2
CHUNK_ROWS = 64


def laplace_approximation(
    model: Model,
    x: Float[Tensor, "data obs_dim"],
    *,
    seed: int = 0,
    num_draws: int = 1000,
    num_steps: int = 100,
) -> tuple[Float[Tensor, "data dim"], Float[Tensor, "data dim dim"]]:
    """Find a mode of each posterior and the Gaussian with its curvature.

    Args:
        model: A model with one latent site.
        x: Observations, shape ``(N, obs_dim)``.
        seed: Of the prior draws.
        num_draws: Draws of the prior among which each datum takes the best.
        num_steps: Steps uphill from there (Adam), before one of Newton's.

    Returns:
        Mean ``(N, S)`` and Cholesky factor ``(N, S, S)`` in double precision; directions along
        which the log density does not bend down get a precision of 0.01.
    """
    site = model.latent_sites[0]
    with own_randomness(seed):
        draws = prior_predictive(model, num_draws).latents[site]
    with evaluating(model):
        found = [
            _of_rows(model, part, site, draws, num_steps) for part in x.double().split(CHUNK_ROWS)
        ]
    locs, factors = zip(*found, strict=True)
    return torch.cat(locs), torch.cat(factors)


def _best_draws(model: Model, x: Tensor, site: str, draws: Tensor) -> Tensor:
    """Take for each datum the draw of the prior with the largest log p(x, z), ``(N, S)``."""
    rows = max(1, CHUNK_ELEMENTS // (len(draws) * (x.shape[-1] + 256)))

    def best(part: Tensor) -> Tensor:
        every = draws[:, None].expand(-1, len(part), -1)
        return log_joint_at(model, Data.of(part), {site: every}).argmax(0)

    return draws[torch.cat([best(part) for part in x.split(rows)])]


def _of_rows(
    model: Model, x: Tensor, site: str, draws: Tensor, num_steps: int
) -> tuple[Tensor, Tensor]:
    rows = Data.of(x)

    def log_joint(z: Tensor) -> Tensor:
        return log_joint_at(model, rows, {site: z})

    z = _best_draws(model, x, site, draws).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    with torch.enable_grad():
        for _ in range(num_steps):
            optimizer.zero_grad()
            (-log_joint(z[None]).sum()).backward(inputs=[z])
            optimizer.step()
        (slope,) = torch.autograd.grad(log_joint(z[None]).sum(), z, create_graph=True)
        columns = [
            torch.autograd.grad(each.sum(), z, retain_graph=True)[0] for each in slope.unbind(-1)
        ]
    precision = -torch.stack(columns, -1)
    values, vectors = torch.linalg.eigh(0.5 * (precision + precision.mT))
    spread = vectors / values.clamp_min(LEAST_PRECISION)[:, None]
    covariance = spread @ vectors.mT
    newton = (z + (covariance @ slope[..., None]).squeeze(-1)).detach()
    better = log_joint(newton[None])[0] > log_joint(z[None])[0]
    loc = torch.where(better[:, None], newton, z.detach())
    return loc, torch.linalg.cholesky(covariance)
