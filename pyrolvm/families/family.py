r"""What every family offers: a map from a flat parameter vector to a distribution.

.. math:: \lambda \in \mathbb{R}^P \mapsto q(z; \lambda), \qquad z \in \mathbb{R}^D

A family has no weights of its own. An encoder that puts out λ and an oracle that holds one λ for
each datum therefore search the same set of distributions, and the difference of their fits is the
amortization gap alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrolvm.core.errors import SettingError


@dataclass(frozen=True)
class Transport:
    r"""Weighted points that stand for q(z; λ): :math:`E_q f \approx \sum_m w_m f(z_m)`.

    Args:
        z: M points, shape ``(M, ..., D)``, differentiable in λ, as are the rest.
        log_density: Log q at them in nats, ``(M, ...)``.
        log_weight: Logarithms of the weights, which sum to 1 over the points, ``(M, ...)``.
    """

    z: Tensor
    log_density: Tensor
    log_weight: Tensor


class Family(ABC):
    """A set of densities over vectors, indexed by unconstrained parameters.

    Args:
        dim: Dimension D of the latent vector.

    Raises:
        SettingError: If the dimension is not a positive whole number.

    Attributes:
        name: The name that :func:`make_family` knows it by.
        is_binary: Whether it is over vectors of zeros and ones, with one parameter a dimension,
            instead of real vectors.
    """

    name: ClassVar[str]
    is_binary: ClassVar[bool] = False

    def __init__(self, dim: int) -> None:
        self.dim = positive(dim, "dimension of the latent vector")

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Length P of a parameter vector."""

    @abstractmethod
    def distribution(self, parameters: Float[Tensor, "*batch P"]) -> TorchDistribution:
        """Return q(z; λ) with the batch shape of the parameters and event shape ``(D,)``."""

    @abstractmethod
    def from_gaussian(
        self, loc: Float[Tensor, "*batch D"], scale_tril: Float[Tensor, "*batch D D"]
    ) -> Float[Tensor, "*batch P"]:
        """Return the parameters of the member closest to a Gaussian that training can start from.

        Args:
            loc: Mean, shape ``(..., D)``.
            scale_tril: Lower Cholesky factor of the covariance, shape ``(..., D, D)``.
        """

    def from_draws(self, draws: Float[Tensor, "draws *batch D"]) -> Float[Tensor, "*batch P"]:
        """Return a member near the distribution that draws come from: by their moments.

        Args:
            draws: Shape ``(K, ..., D)``.
        """
        loc = draws.mean(0)
        centred = draws - loc
        covariance = torch.einsum("k...i,k...j->...ij", centred, centred) / len(draws)
        jitter = 1e-8 * torch.eye(self.dim, dtype=draws.dtype, device=draws.device)
        return self.from_gaussian(loc, torch.linalg.cholesky(covariance + jitter))

    @property
    def initial(self) -> Float[Tensor, " P"]:
        """Parameters of (about) the standard normal."""
        return self.from_gaussian(torch.zeros(self.dim), torch.eye(self.dim))

    def mean(self, parameters: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch D"]:
        """Return the mean of q(z; λ).

        Raises:
            NotImplementedError: If the family has no closed form for it.
        """
        return self.distribution(parameters).mean

    @abstractmethod
    def covariance(self, parameters: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch D D"]:
        """Return the covariance matrix of q(z; λ).

        Raises:
            NotImplementedError: If the family has no closed form for it.
        """

    def transport(
        self, parameters: Float[Tensor, "*batch P"], noise: Float[Tensor, "S D"]
    ) -> Transport:
        """Push given standard normal noise, the same for all of the batch, to draws of q(z; λ).

        Unlike draws of :meth:`distribution`, the points have derivatives of any order in λ.

        Args:
            parameters: λ, shape ``(..., P)``.
            noise: S draws of a standard normal, or points that stand for it.

        Raises:
            SettingError: If the family's draws cannot follow λ smoothly.
        """
        raise SettingError(
            f"Refinement needs draws that follow their parameters smoothly, but {self!r} has "
            "none. Use the diagonal, full, mixture or flow family."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dim={self.dim})"


def equally_weighted(z: Tensor, log_density: Tensor) -> Transport:
    """Return a transport whose M points weigh 1/M each.

    Args:
        z: Shape ``(M, ..., D)``.
        log_density: Log q at them in nats, ``(M, ...)``.
    """
    return Transport(z, log_density, torch.full_like(log_density, -math.log(len(z))))


def positive(number: int, meaning: str) -> int:
    """Return a count after checking it.

    Raises:
        SettingError: If it is not a positive whole number.
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise SettingError(f"The {meaning} must be a positive whole number, but it is {number!r}.")
    return number


def along_batch(
    noise: Float[Tensor, "S D"], like: Float[Tensor, "*batch D"]
) -> Float[Tensor, "S *ones D"]:
    """Give noise the dimensions of a batch, each of size 1, and its type."""
    return noise.reshape(len(noise), *(1,) * (like.dim() - 1), -1).to(like)
