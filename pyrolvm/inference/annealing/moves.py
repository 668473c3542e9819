r"""Hamiltonian Monte Carlo moves of all chains at once, at a temperature of the path.

.. math:: H(u, p) = -\log f_\beta(u) + \tfrac12 |p|^2

Momenta have unit mass in coordinates divided by a scale of each datum. A move leaves f_β
invariant and is reversible whatever the step, as long as the step does not depend on the chain.

References:
    Neal (2011), MCMC Using Hamiltonian Dynamics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.latent_space import Points
from pyrolvm.inference.annealing.path import AnnealingPath, PerChain, State, evaluate

JITTER = 0.2
"""Steps vary by this share between moves, so that no orbit closes; all chains share a step."""


@dataclass(frozen=True)
class Stage:
    """One temperature: how far the path has come, and how chains move there.

    Args:
        beta: Inverse temperature of each datum, shape ``(N,)``.
        step: Leapfrog step of each datum in units of the scale, shape ``(N,)``.
        scale: Scale of each coordinate, shape ``(N, S)``.
    """

    beta: Float[Tensor, " data"]
    step: Float[Tensor, " data"]
    scale: Float[Tensor, "data S"]


def move(
    path: AnnealingPath, state: State, stage: Stage, num_leapfrog: int
) -> tuple[State, PerChain]:
    """One Hamiltonian move of every chain.

    Args:
        path: The annealed densities.
        state: Where the chains are.
        stage: Temperature, steps and scales.
        num_leapfrog: Leapfrog steps of the trajectory.

    Returns:
        Where the chains are then, and the probability with which each proposal was accepted,
        shape ``(K, N)``; 0 where a trajectory left all bounds.
    """
    vary = 1.0 + JITTER * (2.0 * torch.rand_like(stage.step) - 1.0)
    stride = (vary * stage.step)[:, None] * stage.scale
    start = torch.randn_like(state.points)
    proposal, momentum, inside = _trajectory(path, state, stage.beta, stride, start, num_leapfrog)
    kinetic = 0.5 * (start.square() - momentum.square()).sum(-1)
    change = proposal.log_density(stage.beta) - state.log_density(stage.beta) + kinetic
    change = torch.where(inside & ~change.isnan(), change, -torch.inf)
    accepted = torch.rand_like(change).log() < change
    return proposal.where(accepted, state), change.clamp_max(0.0).exp()


def _trajectory(
    path: AnnealingPath, state: State, beta: Tensor, stride: Tensor, momentum: Points, length: int
) -> tuple[State, Points, Tensor]:
    """Leapfrog; chains that overflow stay where they are and are marked."""
    at, inside = state, torch.ones_like(state.base, dtype=torch.bool)
    for _ in range(length):
        half = momentum + 0.5 * stride * at.slope(beta)
        points = at.points + stride * half
        inside = inside & points.isfinite().all(-1)
        at = evaluate(path, torch.where(inside[..., None], points, at.points))
        momentum = half + 0.5 * stride * at.slope(beta)
    return at, momentum, inside
