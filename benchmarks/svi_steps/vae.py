r"""A variational autoencoder, as a Pyro program and by hand.

.. math:: z \sim N(0, I), \quad x \mid z \sim N(g(z), \sigma^2 I) \text{ or Bernoulli}, \quad
          q(z \mid x) = N(m(x), \operatorname{diag}(s(x)^2))

The loss is the negative ELBO with one draw for each datum, log p and log q at that draw.

References:
    Kingma & Welling (2014), Auto-Encoding Variational Bayes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import Bernoulli, Normal
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from benchmarks.svi_steps.gaussian import log_normal, log_standard_normal, unused_name
from pyrolvm.nn import mlp


class Decoder(nn.Module):
    """Mean of x, or its log odds; and the log of the noise scale of real data."""

    def __init__(self, widths: Sequence[int], is_gaussian: bool) -> None:
        super().__init__()
        self.network = mlp(widths[0], tuple(widths[1:-1]), widths[-1])
        self.log_noise = nn.Parameter(torch.zeros(())) if is_gaussian else None


class VAE(nn.Module):
    """Both networks; ``model`` and ``guide`` are the Pyro pair, a call is the loss by hand.

    Args:
        obs_dim: Dimension of x.
        hidden: Widths of the hidden layers of either network.
        latent_dim: Dimension of z.
        is_gaussian: Whether x is real, with a learned noise scale; else zeros and ones.
    """

    def __init__(
        self, obs_dim: int, hidden: Sequence[int], latent_dim: int, is_gaussian: bool
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = mlp(obs_dim, tuple(hidden), 2 * latent_dim)
        self.decoder = Decoder((latent_dim, *reversed(hidden), obs_dim), is_gaussian)
        self.names = unused_name("encoder"), unused_name("decoder")

    def model(self, x: Tensor) -> None:
        """The generative half, a Pyro program."""
        pyro.module(self.names[1], self.decoder)
        with pyro.plate("data", len(x)):
            zeros = x.new_zeros(len(x), self.latent_dim)
            z = pyro.sample("z", Normal(zeros, torch.ones_like(zeros)).to_event(1))
            output = self.decoder.network(z)
            if self.decoder.log_noise is None:
                pyro.sample("x", Bernoulli(logits=output).to_event(1), obs=x)
            else:
                pyro.sample("x", Normal(output, self.decoder.log_noise.exp()).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """The guide, a Pyro program."""
        pyro.module(self.names[0], self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", Normal(loc, log_scale.exp()).to_event(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the negative ELBO, summed over rows."""
        loc, log_scale = self.encoder(x).chunk(2, -1)
        z = loc + log_scale.exp() * torch.randn_like(loc)
        output = self.decoder.network(z)
        if self.decoder.log_noise is None:
            distortion = cross_entropy(output, x, reduction="sum")
        else:
            distortion = -log_normal(x, output, self.decoder.log_noise).sum()
        rate = log_normal(z, loc, log_scale).sum() - log_standard_normal(z).sum()
        return distortion + rate
