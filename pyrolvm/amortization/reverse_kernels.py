r"""Reverse kernels: how a Langevin chain is thought to have come to where it is.

The density of a chain's end is an integral over all paths. On the extended space of whole paths

.. math:: \log p(x) \ge E_q\Big[\log p(x, z_T) + \sum_t \log r_t(z_t \mid z_{t+1}, x)
          - \log q(z_0, \dots, z_T \mid x)\Big]

holds for any kernels r. What is lost besides :math:`KL(q(z_T \mid x) \,\|\, p(z \mid x))` is their
distance from the chain's own backward kernels.

References:
    Salimans, Kingma & Welling (2015), Markov Chain Monte Carlo and Variational Inference.
    Thin, Kotelevskii, Doucet, Durmus, Moulines & Panov (2021), Monte Carlo Variational
    Auto-Encoders (annealed Langevin kernels).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.amortization.langevin_chain import ChainPath, LangevinChain
from pyrolvm.amortization.log_joint import slope


class ReverseKernels(nn.Module, ABC):
    """Densities r of the earlier positions of a chain given the later ones.

    Args:
        num_steps: Number of steps T of the chain.
        dim: Dimension D of its positions.
    """

    def __init__(self, num_steps: int, dim: int) -> None:
        super().__init__()
        self.num_steps, self.dim = num_steps, dim

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures of the chain that these kernels are for: all 1, the posterior itself."""
        return (1.0,) * self.num_steps

    @abstractmethod
    def log_prob(self, path: ChainPath, chain: LangevinChain) -> Float[Tensor, "*batch data"]:
        """Return log r(z_0, …, z_{T−1} | z_T, x) in nats, shape ``(..., N)``."""


class GradientReverse(ReverseKernels):
    r"""The forward kernels, run backwards; nothing is learned.

    .. math:: r(z_t \mid z_{t+1}) = N(z_{t+1} + h \nabla \log \pi_t(z_{t+1}), 2 h I)

    Each is right once the chain is at rest in :math:`\pi_t`.
    """

    def log_prob(self, path: ChainPath, chain: LangevinChain) -> Float[Tensor, "*batch data"]:
        """Return log r(z_0, …, z_{T−1} | z_T, x) in nats, shape ``(..., N)``."""
        total = torch.zeros_like(path.log_density)
        if not self.num_steps:
            return total
        slopes = (*path.slopes[1:], slope(path.log_joint, path.end))
        for step, there in enumerate(slopes):
            mean = chain.moved(step, path.positions[step + 1], there, path.centre)
            total = total + chain.log_kernel(path.positions[step], mean)
        return total


class AnnealedReverse(GradientReverse):
    """The forward kernels of a chain through densities that bridge start and posterior.

    The chain is nearly at rest all the time if it has many steps.
    """

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures that rise evenly to 1."""
        return tuple((step + 1) / self.num_steps for step in range(self.num_steps))
