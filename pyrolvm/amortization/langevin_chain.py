r"""A Langevin chain from a Gaussian start, and the density of its path.

.. math:: z_0 \sim N(c, S_0 S_0^\top), \qquad
          z_{t+1} = z_t + h \, \nabla \log \pi_t(z_t) + \sqrt{2 h} \, \xi_t, \qquad
          \log \pi_t = (1 - \tau_t) \log q_0(z) + \tau_t \log p(x, z)

With all temperatures :math:`\tau_t = 1` it is the unadjusted Langevin algorithm for the posterior.

References:
    Roberts & Tweedie (1996), Exponential Convergence of Langevin Distributions and Their Discrete
    Approximations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pyro.distributions import MultivariateNormal
from pyro.poutine.runtime import get_plates
from torch import Tensor, nn

from pyrolvm.amortization.log_joint import LogJoint, slope
from pyrolvm.families import GaussianMixture
from pyrolvm.families.triangular import raw_of_scale_tril, scale_tril


@dataclass(frozen=True)
class ChainPath:
    """Many runs of a chain.

    Args:
        positions: z_0, …, z_T, shape ``(..., N, D)`` each.
        slopes: Gradients of log p(x, z) at all positions but the last, ``(..., N, D)`` each.
        log_density: Log q(z_0, …, z_T | x) in nats, shape ``(..., N)``.
        log_joint: The target.
        centre: Mean c of the start, shape ``(N, D)``.
    """

    positions: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]
    log_density: Tensor
    log_joint: LogJoint
    centre: Tensor

    @property
    def end(self) -> Float[Tensor, "*batch data D"]:
        """z_T."""
        return self.positions[-1]


class LangevinChain(nn.Module):
    """The chain's own parameters: the width of its start and its step size.

    Args:
        start_scale_tril: Cholesky factor S_0 before training, shape ``(D, D)``.
        step_size: h before training.
        temperatures: τ_t of each step.
        learn_step: Whether h is trained.
    """

    log_step: Tensor

    def __init__(
        self,
        start_scale_tril: Float[Tensor, "D D"],
        step_size: float,
        temperatures: Sequence[float],
        *,
        learn_step: bool = True,
    ) -> None:
        super().__init__()
        self.dim = len(start_scale_tril)
        self.raw_start = nn.Parameter(raw_of_scale_tril(start_scale_tril))
        hold(self, "log_step", math.log(step_size), learn=learn_step)
        self.temperatures = tuple(float(value) for value in temperatures)

    @property
    def num_steps(self) -> int:
        """Number of stochastic layers T after the start."""
        return len(self.temperatures)

    @property
    def step_size(self) -> Tensor:
        """Step size h."""
        return self.log_step.exp()

    @property
    def start_scale_tril(self) -> Float[Tensor, "D D"]:
        """Cholesky factor S_0 of the covariance of z_0."""
        return scale_tril(self.raw_start, self.dim)

    def start(self, centre: Float[Tensor, "data D"]) -> MultivariateNormal:
        """Return the distribution of z_0 around its mean."""
        return MultivariateNormal(centre, scale_tril=self.start_scale_tril)

    def run(
        self, log_joint: LogJoint, centre: Float[Tensor, "data D"], batch_shape: Sequence[int]
    ) -> ChainPath:
        """Run the chain.

        Args:
            log_joint: The target.
            centre: Mean of the start, shape ``(N, D)``.
            batch_shape: Shape ``(..., N)`` of the runs.
        """
        start = self.start(centre).expand(torch.Size(batch_shape))
        positions, slopes = [start.rsample()], []
        log_density = start.log_prob(positions[0])
        for step in range(self.num_steps):
            slopes.append(slope(log_joint, positions[-1]))
            mean = self.moved(step, positions[-1], slopes[-1], centre)
            positions.append(mean + (2 * self.step_size).sqrt() * torch.randn_like(mean))
            log_density = log_density + self.log_kernel(positions[-1], mean)
        return ChainPath(tuple(positions), tuple(slopes), log_density, log_joint, centre)

    def moved(self, step: int, z: Tensor, slope_there: Tensor, centre: Tensor) -> Tensor:
        """Return the mean of the kernel of a step from z, where log p(x, z) has this slope."""
        temperature = self.temperatures[step]
        if temperature < 1:
            precision = torch.cholesky_inverse(self.start_scale_tril)
            towards_start = (centre - z) @ precision
            slope_there = (1 - temperature) * towards_start + temperature * slope_there
        return z + self.step_size * slope_there

    def log_kernel(
        self, z: Float[Tensor, "*batch data D"], mean: Float[Tensor, "*batch data D"]
    ) -> Float[Tensor, "*batch data"]:
        """Return log N(z; mean, 2 h I) in nats."""
        variance = 2 * self.step_size
        squares = (z - mean).square().sum(-1) / variance
        return -0.5 * (squares + self.dim * (variance * 2 * math.pi).log())

    def end_mixture(self, path: ChainPath) -> GaussianMixture:
        """Return an estimate of the density of the end: equal shares of each run's last kernel.

        Args:
            path: S runs, positions of shape ``(S, N, D)``; of no steps, one is enough.

        Returns:
            Batch shape ``(N,)``, event shape ``(D,)``.
        """
        if self.num_steps:
            last = self.moved(-1, path.positions[-2], path.slopes[-1], path.centre)
            locs = last.movedim(0, -2)
            factor = (2 * self.step_size).sqrt() * torch.eye(self.dim).to(locs)
        else:
            locs, factor = path.centre.unsqueeze(-2), self.start_scale_tril
        logits = locs.new_zeros(locs.shape[:-1])
        return GaussianMixture(logits, locs, factor.expand(locs.shape[-2], -1, -1))

    def noise_free(self, log_joint: LogJoint, centre: Float[Tensor, "data D"]) -> list[Tensor]:
        """Return the path from the centre without noise, T + 1 points of shape ``(N, D)``."""
        points = [centre]
        for step in range(self.num_steps):
            points.append(self.moved(step, points[-1], slope(log_joint, points[-1]), centre))
        return points


def hold(module: nn.Module, name: str, value: float, *, learn: bool) -> None:
    """Give a module a number: a parameter if it is learned, a buffer if not."""
    if learn:
        module.register_parameter(name, nn.Parameter(torch.tensor(value)))
    else:
        module.register_buffer(name, torch.tensor(value))


def enclosing_shape() -> list[int]:
    """Batch shape that the plates around the present statement of a program give its sites."""
    sizes = {frame.dim: frame.size for frame in get_plates() if frame.dim is not None}
    return [sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0)]
