r"""The preliminary run that finds temperatures, steps and scales; the final run only uses them.

A population of chains is cooled from the start of the path to the posterior: the next temperature
of each datum is the one at which the reweighted population is worth a given share of its size,

.. math:: \mathrm{CESS} = \frac{(\sum_k v_k)^2}{K \sum_k v_k^2}, \qquad
          v_k = e^{(\beta' - \beta) r(u_k)}

then chains are resampled and moved, and the steps follow the acceptance. Nothing of it enters an
estimate: the final run has random numbers of its own, so its weights are unbiased.

References:
    Zhou, Johansen & Aston (2016), Toward Automatic Model Comparison: An Adaptive Sequential Monte
    Carlo Approach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyrolvm.core.latent_space import Points
from pyrolvm.inference.annealing.moves import Stage, move
from pyrolvm.inference.annealing.path import AnnealingPath, PerChain, State, evaluate
from pyrolvm.inference.annealing.schedule import Schedule

CHAINS = 48
"""Chains of the preliminary run."""
WORTH = 0.5
"""Share of the population that it is worth after a change of temperature."""
MOVES = 4
"""Moves at each temperature."""
MOST_STAGES = 200
ACCEPTANCE = 0.65
"""Acceptance that steps are adapted towards; the best of Hamiltonian Monte Carlo."""
LONGEST = 0.5 * math.pi
"""Longest trajectory in units of the scale: a quarter of a Gaussian's orbit forgets the start."""


@dataclass(frozen=True)
class Tuned:
    """What the preliminary run found.

    Args:
        schedule: Temperatures, steps and scales.
        population: Its chains at the posterior, shape ``(K, N, S)``: near it, not exactly of it.
    """

    schedule: Schedule
    population: Points


@dataclass
class _Record:
    """Stages so far, each entry of shape ``(N,)``, scales ``(N, S)``."""

    lengths: list[Tensor]
    stages: list[Stage] = field(default_factory=list)

    def add(self, length: Tensor, stage: Stage) -> None:
        self.lengths.append(self.lengths[-1] + length)
        self.stages.append(stage)

    def schedule(self) -> Schedule:
        betas = [torch.zeros_like(self.stages[0].beta), *(each.beta for each in self.stages)]
        steps = [self.stages[0].step, *(each.step for each in self.stages)]
        scales = [self.stages[0].scale, *(each.scale for each in self.stages)]
        return Schedule(*map(torch.stack, (self.lengths, betas, steps, scales)))


def tune(path: AnnealingPath, num_leapfrog: int, num_chains: int = CHAINS) -> Tuned:
    """Cool a population from the start of a path to the posterior.

    Args:
        path: The annealed densities.
        num_leapfrog: Leapfrog steps of a move.
        num_chains: Chains for each datum.
    """
    state = evaluate(path, path.draw(num_chains))
    beta = state.base.new_zeros(state.base.shape[1])
    stage = Stage(beta, torch.full_like(beta, 1.0), _spread(state, torch.ones_like(state.base)))
    record = _Record([torch.zeros_like(beta)])
    for number in range(MOST_STAGES):
        last = number == MOST_STAGES - 1
        then = torch.ones_like(beta) if last else _next_beta(state.rest, beta)
        weights = _weights(state.rest, then - beta)
        length = (-_worth(weights).log()).clamp_min(0.0).sqrt()
        scale = _shrunk(_spread(state, weights), stage.scale, num_chains)
        state = state.chosen(_ancestors(weights))
        state, stage = _settle(path, state, Stage(then, stage.step, scale), num_leapfrog)
        record.add(length, stage)
        beta = then
        if bool((beta >= 1.0).all()):
            break
    return Tuned(record.schedule(), state.points)


def _settle(
    path: AnnealingPath, state: State, stage: Stage, num_leapfrog: int
) -> tuple[State, Stage]:
    """Move a population, with steps that follow its acceptance."""
    for number in range(MOVES):
        state, accepted = move(path, state, stage, num_leapfrog)
        gain = 2.0 / math.sqrt(number + 1)
        factor = (gain * (accepted.mean(0) - ACCEPTANCE)).exp()
        step = (stage.step * factor).clamp_max(LONGEST / num_leapfrog)
        stage = Stage(stage.beta, step, stage.scale)
    return state, stage


def _weights(rest: PerChain, change: Tensor) -> PerChain:
    """Relative weights of chains after a change of β, the largest of each datum 1."""
    level = torch.where(change > 0, change * rest, 0.0)
    level = level - level.amax(0)
    return torch.where(level.isnan(), 1.0, level.exp())  # no chain is in the support


def _worth(weights: PerChain) -> Tensor:
    return weights.sum(0).square() / (len(weights) * weights.square().sum(0))


def _next_beta(rest: PerChain, beta: Tensor) -> Tensor:
    """Find the temperature at which a population is worth half; 1 if it is worth more there."""
    low, high = beta, torch.ones_like(beta)
    enough = _worth(_weights(rest, high - beta)) >= WORTH
    for _ in range(50):
        middle = 0.5 * (low + high)
        fits = _worth(_weights(rest, middle - beta)) >= WORTH
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return torch.where(enough, 1.0, high)


def _ancestors(weights: PerChain) -> Tensor:
    """Resample systematically: indices of shape ``(K, N)``."""
    size = len(weights)
    places = torch.arange(size, dtype=weights.dtype, device=weights.device)[:, None]
    places = (places + torch.rand_like(weights[:1])) / size
    sums = (weights / weights.sum(0)).cumsum(0)
    found = torch.searchsorted(sums.mT.contiguous(), places.mT.contiguous())
    return found.mT.clamp_max(size - 1)


def _spread(state: State, weights: PerChain) -> Tensor:
    """Standard deviation of each coordinate under the weights, shape ``(N, S)``."""
    share = (weights / weights.sum(0))[..., None]
    centre = (share * state.points).sum(0)
    return (share * (state.points - centre).square()).sum(0).sqrt()


def _shrunk(spread: Tensor, before: Tensor, num_chains: int) -> Tensor:
    """Scales of a small population, held near those of the stage before."""
    weight = 2.0 / (num_chains + 2.0)
    return ((1 - weight) * spread.square() + weight * before.square()).sqrt().clamp_min(1e-12)
