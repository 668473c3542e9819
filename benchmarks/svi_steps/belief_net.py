r"""A sigmoid belief network, as a Pyro program and by hand, on reweighted wake-sleep.

.. math:: -\log \frac{1}{K} \sum_k w_k, \qquad
          \text{gradient} = -\sum_k \tilde w_k \nabla (\log p(x, z_k) + \log q(z_k \mid x))

with normalised weights of K draws for each datum: wake θ and wake φ.

References:
    Bornschein & Bengio (2015), Reweighted Wake-Sleep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pyro
import torch
from pyro.distributions import Bernoulli
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from benchmarks.svi_steps.gaussian import unused_name


class Generative(nn.Module):
    """Log odds of each layer given the one above, and of the top."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(above, below) for below, above in pairwise(widths))
        self.top = nn.Parameter(torch.zeros(widths[-1]))


class BeliefNet(nn.Module):
    """All layers; ``model`` and ``guide`` are the Pyro pair, a call is the loss by hand.

    Args:
        widths: Of x and of the layers above it.
        num_particles: Draws K for each datum.
    """

    def __init__(self, widths: Sequence[int], num_particles: int) -> None:
        super().__init__()
        self.num_particles = num_particles
        self.up = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise(widths))
        self.down = Generative(widths)
        self.names = unused_name("up"), unused_name("down")

    def model(self, x: Tensor) -> None:
        """The generative half, a Pyro program."""
        pyro.module(self.names[1], self.down)
        with pyro.plate("data", len(x), dim=-1):
            logits = self.down.top.expand(len(x), -1)
            for layer in range(len(self.down.layers), 0, -1):
                z = pyro.sample(f"z_{layer}", Bernoulli(logits=logits).to_event(1))
                logits = self.down.layers[layer - 1](z)
            pyro.sample("x", Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """The guide, a Pyro program."""
        pyro.module(self.names[0], self.up)
        with pyro.plate("data", len(x), dim=-1):
            value = x
            for layer, network in enumerate(self.up, 1):
                law = Bernoulli(logits=network(value))
                value = pyro.sample(f"z_{layer}", law.to_event(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the negative bound, summed over rows, with the gradients of the wake phases."""
        below, log_guide, log_joint = x.expand(self.num_particles, -1, -1), 0.0, 0.0
        for layer, (up, down) in enumerate(zip(self.up, self.down.layers, strict=True)):
            logits = up(below if layer else x).expand(self.num_particles, -1, -1)
            above = torch.bernoulli(logits.detach().sigmoid())
            log_guide = log_guide - cross_entropy(logits, above, reduction="none").sum(-1)
            log_joint = log_joint - cross_entropy(down(above), below, reduction="none").sum(-1)
            below = above
        top = cross_entropy(self.down.top.expand_as(below), below, reduction="none").sum(-1)
        log_joint = log_joint - top
        log_weights = (log_joint - log_guide).detach()
        surrogate = -(torch.softmax(log_weights, 0) * (log_joint + log_guide)).sum()
        value = (math.log(self.num_particles) - log_weights.logsumexp(0)).sum()
        return value + surrogate - surrogate.detach()
