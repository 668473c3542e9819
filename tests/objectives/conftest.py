"""A belief network small enough to sum over all its latent states, and over tuples of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from pyrolvm import guides, models
from pyrolvm.core.tracing import Holding
from pyrolvm.objectives import ParticleObjective


def binary(width: int) -> Tensor:
    """All vectors of zeros and ones."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=width)), dtype=torch.float64)


def log_mass(logits: Tensor, units: Tensor) -> Tensor:
    """Log probability of binary units, summed over the last axis."""
    return logsigmoid((2 * units - 1) * logits).sum(-1)


class Enumerated:
    """A network with its guide in double precision, weights uniform in ±2, and every state."""

    def __init__(self, layers: Sequence[int], obs_dim: int) -> None:
        torch.manual_seed(7)
        self.model = models.SigmoidBeliefNetwork(layers=layers, obs_dim=obs_dim).double()
        self.guide = guides.HelmholtzCoupled(self.model).double()
        for parameter in (*self.model.parameters(), *self.guide.parameters()):
            parameter.data.uniform_(-2, 2)
        states = list(itertools.product(*map(binary, layers)))
        self.states = {
            f"z_{1 + place}": torch.stack([state[place] for state in states])
            for place in range(len(layers))
        }
        self.num_states = len(states)
        self.x = binary(obs_dim)

    def log_joint(self, x: Tensor) -> Tensor:
        """Log p(x, z) of every state and datum, shape ``(S, N)``."""
        below, total = x[None], torch.zeros(self.num_states, len(x), dtype=x.dtype)
        for name, units in self.states.items():
            site = "x" if name == "z_1" else f"z_{int(name[2:]) - 1}"
            total = total + log_mass(self.model.layers[site](units)[:, None], below)
            below = units[:, None]
        return total + log_mass(self.model.top_logits, below)

    def log_guide(self, x: Tensor) -> Tensor:
        """Log q(z | x) of every state and datum, shape ``(S, N)``."""
        below, total = x[None], torch.zeros(self.num_states, len(x), dtype=x.dtype)
        for name, units in self.states.items():
            total = total + log_mass(self.guide.layers[name](below), units[:, None])
            below = units[:, None]
        return total

    def coupled(self, x: Tensor, alpha: float = 0.5) -> Tensor:
        """The coupled bound with infinitely many draws, shape ``(N,)``."""
        joint, guide = self.log_joint(x), self.log_guide(x)
        return ((1 - alpha) * joint + alpha * guide).logsumexp(0) / (1 - alpha)

    def tuples(self, num_particles: int) -> Tensor:
        """Indices of the states of all K-tuples, shape ``(K, S^K)``."""
        every = torch.arange(self.num_states)
        return torch.cartesian_prod(*[every] * num_particles).reshape(-1, num_particles).T

    def expectations(
        self, objective: ParticleObjective, x: Tensor, quantity: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Two expectations over all K-tuples of draws, with gradients.

        The first is that of the objective's surrogate, run through the programs, whose gradient is
        the mean of the estimate. The second is that of a quantity of the log weights, ``(K, M)``
        to ``(M,)``, and its gradient is the truth.
        """
        index = self.tuples(objective.num_particles)
        rows = x.expand(index.shape[1], -1)
        joint, guide = self.log_joint(x[None]), self.log_guide(x[None])
        chance = guide[index, 0].sum(0).exp()
        with Holding({name: units[index] for name, units in self.states.items()}):
            particles = objective.particles(self.model, self.guide, (rows,), {})
        mean = (chance.detach() * objective.surrogate(particles)).sum()
        return mean, (chance * quantity((joint - guide)[index, 0])).sum()


@pytest.fixture
def enumerated() -> type[Enumerated]:
    """The class, for networks of any size."""
    return Enumerated


@pytest.fixture
def net() -> Enumerated:
    """Four observed units under layers of three and two."""
    return Enumerated((3, 2), 4)


@pytest.fixture
def gradient() -> Callable[[Tensor, Iterable[nn.Parameter]], Tensor]:
    """Gradient of a number as one vector, zeros where nothing depends."""

    def flat(number: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
        parameters = list(parameters)
        parts = torch.autograd.grad(number, parameters, allow_unused=True, retain_graph=True)
        return torch.cat(
            [
                (torch.zeros_like(p) if part is None else part).flatten()
                for p, part in zip(parameters, parts, strict=True)
            ]
        )

    return flat


@pytest.fixture
def close_in_mean() -> Callable[[Tensor, Tensor], bool]:
    """Whether the mean of many estimates, in rows, lies within 4 standard errors of the truth."""

    def close(estimates: Tensor, truth: Tensor) -> bool:
        error = estimates.std(0) / len(estimates) ** 0.5
        assert (error > 0).any()
        return bool(((estimates.mean(0) - truth).abs() <= 4 * error + 1e-9).all())

    return close
