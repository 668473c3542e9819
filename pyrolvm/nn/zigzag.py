r"""Zigzags of a uniform variable under Gaussian noise, whose posterior is known.

.. math:: z \sim N(0, 1), \qquad t = a + (b - a) \, h(\Phi(z)), \qquad x \mid z \sim N(t, \sigma^2)

with h the zigzag that runs P times through [0, 1]. It keeps the uniform law, so that t is uniform
on [a, b], the evidence is an integral of a normal density, and given x each of the P pieces has
the same probability, with t a normal variable cut to [a, b] on it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution, constraints
from torch import Tensor
from torch.special import log_ndtr, ndtr, ndtri


def zigzag(u: Tensor, num_pieces: int) -> Tensor:
    """Run through [0, 1] as often as there are pieces while u runs through it once.

    >>> zigzag(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]), 2).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    return 1 - (torch.remainder(num_pieces * u, 2) - 1).abs()


def on_pieces(height: Tensor, piece: Tensor, num_pieces: int) -> Tensor:
    """Return the u on these pieces at which the zigzag has these heights."""
    rising = piece % 2 == 0
    return (piece + torch.where(rising, height, 1 - height)) / num_pieces


def from_uniform(u: Tensor) -> Tensor:
    """Return the normal quantile, finite also at 0 and 1."""
    limits = torch.finfo(u.dtype)
    return ndtri(u.clamp(limits.tiny, 1 - limits.eps / 2))


def log_interval_mass(low: Tensor, high: Tensor) -> Tensor:
    """Return log(Φ(high) − Φ(low)), exact also far out in either tail."""
    flip = low + high > 0  # the lower tail is the one that log_ndtr resolves
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    top = log_ndtr(high)
    return top + torch.log(-torch.expm1(log_ndtr(low) - top))


def cut_normal(low: Tensor, high: Tensor, quantile: Tensor) -> Tensor:
    """Return quantiles of a standard normal variable cut to [low, high].

    Beyond 37 standard deviations, where Φ leaves double precision, it is the nearer end.
    """
    flip = low + high > 0
    below, above = torch.where(flip, -high, low), torch.where(flip, -low, high)
    top = log_ndtr(above)
    share = quantile + (1 - quantile) * (log_ndtr(below) - top).exp()
    value = ndtri((top + share.log()).exp().clamp(1e-300, 1 - 1e-16)).clamp(below, above)
    return torch.where(flip, -value, value)


class ZigzagPosterior(TorchDistribution):
    """p(z | x) of a zigzag: batch ``(..., N)``, event ``(1,)``.

    Args:
        x: Observations, shape ``(..., N, 1)``.
        noise_scale: Standard deviation of x given z.
        interval: The ends a and b of the range of t.
        num_pieces: Number of pieces P.
    """

    arg_constraints = {}  # noqa: RUF012 - torch reads it from the class
    support = constraints.real_vector
    has_rsample = False

    def __init__(
        self,
        x: Float[Tensor, "*batch 1"],
        noise_scale: Tensor,
        interval: tuple[float, float] = (0.0, 1.0),
        num_pieces: int = 1,
    ) -> None:
        self.x, self.noise_scale = x, noise_scale
        self.interval, self.num_pieces = interval, num_pieces
        super().__init__(x.shape[:-1], x.shape[-1:])

    def expand(self, batch_shape: Any, _instance: Any = None) -> ZigzagPosterior:
        """Add batch dimensions on the left, as a plate of particles does."""
        x = self.x.expand(torch.Size(batch_shape) + self.event_shape)
        return ZigzagPosterior(x, self.noise_scale, self.interval, self.num_pieces)

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "*sample 1"]:
        """Draw exactly and independently: a piece, and a point on it."""
        x = self.x.double().expand(self._extended_shape(torch.Size(sample_shape)))
        (low, high), scale = self.interval, self.noise_scale.double()
        residual = cut_normal((low - x) / scale, (high - x) / scale, torch.rand_like(x))
        height = ((x + scale * residual - low) / (high - low)).clamp(0, 1)
        piece = torch.randint(self.num_pieces, x.shape, device=x.device)
        return from_uniform(on_pieces(height, piece, self.num_pieces)).to(self.x.dtype)

    def log_prob(self, value: Float[Tensor, "*sample 1"]) -> Float[Tensor, "*sample"]:
        """Return log p(value | x) in nats."""
        if self._validate_args:
            self._validate_sample(value)
        low, high = self.interval
        loc = low + (high - low) * zigzag(ndtr(value), self.num_pieces)
        likelihood = Normal(loc, self.noise_scale).log_prob(self.x)
        prior = -0.5 * (value.square() + math.log(2 * math.pi))
        return (prior + likelihood).squeeze(-1) - self.log_evidence()

    def log_evidence(self) -> Float[Tensor, "*batch"]:
        """Return log p(x) in nats."""
        (low, high), x, scale = self.interval, self.x, self.noise_scale
        mass = log_interval_mass((low - x) / scale, (high - x) / scale)
        return mass.squeeze(-1) - math.log(high - low)
