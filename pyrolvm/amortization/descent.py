r"""Gradient descent on the misfit of a generator, as deterministic layers of a guide.

.. math:: c_{t+1} = c_t + \eta \, \sigma^2 \, \nabla \log p(x \mid c_t)

For Gaussian noise that is descent on :math:`\|G(c) - x\|^2 / 2` with step η. Where G is bijective
with :math:`m \|z - z'\| \le \|G(z) - G(z')\| \le M \|z - z'\|` and second derivatives up to M₂,

.. math:: \|G(c_t) - x\|^2 \le (1 - \eta m^2)^t \, \|G(c_0) - x\|^2
          \quad\text{for}\quad \eta \le 1 / (M^2 + M_2 \|G(c_0) - x\|).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.amortization.calibration import noise_variance
from pyrolvm.amortization.family_guide import INITIAL_SHRINKAGE
from pyrolvm.amortization.langevin_chain import hold
from pyrolvm.amortization.log_joint import LogJoint, slope
from pyrolvm.nn import mlp


class MisfitDescent(nn.Module):
    """A number of steps down the misfit with one rate.

    Args:
        num_steps: Number of steps.
        rate: η before training, in units of the misfit.
        learn_rate: Whether η is trained.
    """

    log_rate: Tensor

    def __init__(self, num_steps: int, rate: float, *, learn_rate: bool = True) -> None:
        super().__init__()
        self.num_steps = num_steps
        hold(self, "log_rate", math.log(rate), learn=learn_rate)

    @property
    def rate(self) -> Tensor:
        """Step η."""
        return self.log_rate.exp()

    def path(self, log_joint: LogJoint, start: Float[Tensor, "data D"]) -> list[Tensor]:
        """Return the start and the points after each step, shape ``(N, D)`` each."""
        step = self.rate * noise_variance(log_joint.model)
        points = [start]
        for _ in range(self.num_steps):
            points.append(points[-1] + step * slope(log_joint.log_likelihood, points[-1]))
        return points


def start_encoder(model: Any, hidden: Sequence[int], activation: str) -> nn.Sequential:
    """Build a network from x to where the descent starts: near the prior's mean at first.

    Args:
        model: Any object with ``prior()``, ``latent_dim`` and ``obs_dim``.
        hidden: Widths of the hidden layers; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    Raises:
        UnknownNameError: If there is no such activation.
    """
    encoder = mlp(model.obs_dim, tuple(hidden), model.latent_dim, activation)
    with torch.no_grad():
        last: Any = encoder[-1]
        last.weight.mul_(INITIAL_SHRINKAGE)
        last.bias.copy_(model.prior().mean)
    return encoder
