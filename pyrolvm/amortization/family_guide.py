r"""The base of guides that find a member of a family for each datum by shared weights.

.. math:: q(z \mid x) = q(z; \lambda(x))
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrolvm.amortization.latent_family import LatentFamily, Latents
from pyrolvm.amortization.standardising_guide import StandardisingGuide
from pyrolvm.families.family import Family
from pyrolvm.nn import mlp

INITIAL_SHRINKAGE = 0.1


class FamilyGuide(StandardisingGuide):
    """A guide that samples q(z; λ(x)); a subclass says how λ follows from x.

    Args:
        model: Any object with one latent site (``latent_sites``), ``latent_dim`` and ``obs_dim``,
            or with layers of zeros and ones.
        family: A key of :data:`pyrolvm.families.FAMILIES`, or a family.
        **family_options: What the family takes besides.

    Attributes:
        family: The family over all latents of the model, side by side, those of the top first.

    Raises:
        IncompatiblePairError: If the model lacks what the guide requires, or the family is over
            other values than the model's latents.
        UnknownNameError: If there is no such family or option.
    """

    def __init__(self, model: Any, family: str | Family, **family_options: int) -> None:
        super().__init__(model)
        self.latents = LatentFamily(self, family, **family_options)
        self.family = self.latents.family

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Latents:
        """Sample every latent site given observations of shape ``(N, obs_dim)``."""
        parameters = self.parameters_for(self.observations(x, self.obs_dim))
        with pyro.plate("data", parameters.shape[-2], dim=-1):
            return self.latents.sample(parameters)

    @abstractmethod
    def parameters_for(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data P"]:
        """Return λ for each datum, shape ``(N, P)``."""

    def distribution(self, x: Float[Tensor, "data obs_dim"]) -> TorchDistribution:
        """Return q(z | x): batch shape ``(N,)``, event shape ``(latent_dim,)``.

        Layers stand side by side, the top first: the event is as wide as all of them.
        """
        return self.family.distribution(self.parameters_for(x))


def encoder_into(
    family: Family, in_dim: int, hidden: Sequence[int], activation: str
) -> nn.Sequential:
    """Build a network into a family's parameters that starts near the family's initial member.

    Args:
        family: Gives the number of outputs, and their values at the start.
        in_dim: Number of inputs.
        hidden: Widths of the hidden layers; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    Raises:
        UnknownNameError: If there is no such activation.
    """
    encoder = mlp(in_dim, tuple(hidden), family.num_parameters, activation)
    with torch.no_grad():
        last: Any = encoder[-1]
        last.weight.mul_(INITIAL_SHRINKAGE)
        last.bias.copy_(family.initial)
    return encoder
