r"""A variational autoencoder with three latent layers, as a Pyro program and by hand.

.. math:: z_3 \sim N(0, I), \quad z_2 \mid z_3, \quad z_1 \mid z_2, \quad
          x \mid z_1 \sim \text{Bernoulli}, \qquad
          q(z \mid x) = q(z_1 \mid x)\, q(z_2 \mid z_1)\, q(z_3 \mid z_2)

References:
    Rezende, Mohamed & Wierstra (2014), Stochastic Backpropagation and Approximate Inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyro
import torch
from pyro.distributions import Bernoulli, Normal
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from benchmarks.svi_steps.gaussian import log_normal, log_standard_normal, unused_name
from pyrolvm.nn import mlp


class Hierarchy(nn.Module):
    """All networks; ``model`` and ``guide`` are the Pyro pair, a call is the loss by hand.

    Args:
        obs_dim: Dimension of x, zeros and ones.
        latent_dims: Widths of z_1, next to x, to z_L.
        hidden: Width of the hidden layer between each layer and the one below it, x included.
    """

    def __init__(self, obs_dim: int, latent_dims: Sequence[int], hidden: Sequence[int]) -> None:
        super().__init__()
        self.top_dim = latent_dims[-1]
        self.up, self.down = nn.ModuleList(), nn.ModuleList()
        for (below, above), width in zip(pairwise((obs_dim, *latent_dims)), hidden, strict=True):
            self.up.append(mlp(below, (width,), 2 * above))
            self.down.append(mlp(above, (width,), below if below == obs_dim else 2 * below))
        self.names = unused_name("up"), unused_name("down")

    def model(self, x: Tensor) -> None:
        """The generative half, a Pyro program."""
        pyro.module(self.names[1], self.down)
        num_layers = len(self.down)
        with pyro.plate("data", len(x)):
            zeros = x.new_zeros(len(x), self.top_dim)
            law = Normal(zeros, torch.ones_like(zeros))
            for layer in range(num_layers, 0, -1):
                z = pyro.sample(f"z_{layer}", law.to_event(1))
                output = self.down[layer - 1](z)
                if layer > 1:
                    loc, log_scale = output.chunk(2, -1)
                    law = Normal(loc, log_scale.exp())
            pyro.sample("x", Bernoulli(logits=output).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """The guide, a Pyro program."""
        pyro.module(self.names[0], self.up)
        with pyro.plate("data", len(x)):
            value = x
            for layer, network in enumerate(self.up, 1):
                loc, log_scale = network(value).chunk(2, -1)
                value = pyro.sample(f"z_{layer}", Normal(loc, log_scale.exp()).to_event(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the negative ELBO, summed over rows."""
        below, loss = x, 0.0
        for layer, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            loc, log_scale = up(below).chunk(2, -1)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            loss = loss + log_normal(z, loc, log_scale).sum()
            if layer == 0:
                loss = loss + cross_entropy(down(z), x, reduction="sum")
            else:
                loss = loss - log_normal(below, *down(z).chunk(2, -1)).sum()
            below = z
        return loss - log_standard_normal(below).sum()
