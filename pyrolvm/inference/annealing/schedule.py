r"""Temperatures, steps and scales along the path, for each datum its own.

With many temperatures and chains in equilibrium, a log weight has the variance

.. math:: \frac1T \Lambda^2, \qquad \Lambda = \int_0^1 \sqrt{\mathrm{Var}_\beta[r]} \, d\beta

where temperatures are spaced at equal lengths of Λ, the best that T temperatures can do.

References:
    Gelman & Meng (1998), Simulating Normalizing Constants: From Importance Sampling to Bridge
    Sampling to Path Sampling. Grosse, Maddison & Salakhutdinov (2013), Annealing between
    Distributions by Averaging Moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.inference.annealing.moves import Stage


@dataclass(frozen=True)
class Schedule:
    """Stages of a preliminary run, between which is interpolated.

    Args:
        lengths: Thermodynamic length up to each stage, rising from 0, shape ``(J, N)``.
        betas: Inverse temperatures, from 0 to 1, shape ``(J, N)``.
        steps: Leapfrog steps in units of the scales, shape ``(J, N)``.
        scales: Scales of the coordinates, shape ``(J, N, S)``.
    """

    lengths: Float[Tensor, "stage data"]
    betas: Float[Tensor, "stage data"]
    steps: Float[Tensor, "stage data"]
    scales: Float[Tensor, "stage data S"]

    @property
    def length(self) -> Float[Tensor, " data"]:
        """Λ of each datum, shape ``(N,)``."""
        return self.lengths[-1]

    def at(self, share: float) -> Stage:
        """The stage at a share of each datum's length, from 0 (the start) to 1 (the posterior)."""
        if share >= 1.0:
            return Stage(torch.ones_like(self.betas[-1]), self.steps[-1], self.scales[-1])
        where = share * self.length
        right = (self.lengths <= where).sum(0).clamp(1, len(self.lengths) - 1)[None]
        left = right - 1
        near, far = self.lengths.gather(0, left), self.lengths.gather(0, right)
        part = ((where - near) / (far - near).clamp_min(1e-300)).clamp(0.0, 1.0)
        return Stage(
            _between(self.betas, left, right, part)[0],
            _between(self.steps, left, right, part)[0],
            _between(self.scales, left, right, part)[0],
        )


def _between(values: Tensor, left: Tensor, right: Tensor, part: Tensor) -> Tensor:
    if values.dim() == 3:
        left, right = (each[..., None].expand(1, *values.shape[1:]) for each in (left, right))
        part = part[..., None]
    return values.gather(0, left).lerp(values.gather(0, right), part)
