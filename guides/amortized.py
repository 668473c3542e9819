r"""Amortized guide: an encoder network puts out the parameters of a family for each datum.

.. math:: q(z \mid x) = q(z; \lambda), \qquad \lambda = \mathrm{encoder}(x)

References:
    Kingma & Welling (2014), Auto-Encoding Variational Bayes.
    Rezende, Mohamed & Wierstra (2014), Stochastic Backpropagation and Approximate Inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrolvm.core import Guide, VectorLatent
from pyrolvm.families import Family, make_family
from pyrolvm.nn import mlp

INITIAL_SHRINKAGE = 0.1


class Amortized(Guide):
    """An encoder into a family of distributions that has no weights of its own.

    Before training every q(z | x) is close to a standard normal.

    Args:
        model: Any object with one latent site (``latent_sites``), ``latent_dim`` and ``obs_dim``.
        family: ``"diagonal"``, ``"full"``, ``"mixture"``, ``"flow"``, or a family.
        hidden: Widths of the encoder's hidden layers; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        **family_options: What the family takes besides, for example ``num_components=8`` (mixture)
            or ``num_layers=16`` (flow).

    Raises:
        IncompatiblePairError: If the model has no single latent vector.
        UnknownNameError: If there is no such family, option or activation.

    >>> from types import SimpleNamespace
    >>> facts = SimpleNamespace(latent_sites=("z",), latent_dim=2, obs_dim=5)
    >>> Amortized(facts, family="full")(torch.zeros(7, 5)).shape
    torch.Size([7, 2])
    """

    requires = (VectorLatent,)
    input_loc: Tensor
    input_scale: Tensor

    def __init__(
        self,
        model: Any,
        family: str | Family = "diagonal",
        hidden: Sequence[int] = (64,),
        activation: str = "relu",
        **family_options: int,
    ) -> None:
        super().__init__(model)
        self.site, self.obs_dim = self.only_site(), model.obs_dim
        self.family = make_family(family, model.latent_dim, **family_options)
        encoder = mlp(model.obs_dim, tuple(hidden), self.family.num_parameters, activation)
        self.register_buffer("input_loc", torch.zeros(model.obs_dim))
        self.register_buffer("input_scale", torch.ones(model.obs_dim))
        with torch.no_grad():
            last: Any = encoder[-1]
            last.weight.mul_(INITIAL_SHRINKAGE)
            last.bias.copy_(self.family.initial)
        self.encoder = encoder

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample the latent site given observations of shape ``(N, obs_dim)``."""
        parameters = self.parameters_for(self.observations(x, self.obs_dim))
        with pyro.plate("data", parameters.shape[-2], dim=-1):
            return pyro.sample(self.site, self.family.distribution(parameters))

    def parameters_for(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data P"]:
        """Return the encoder's λ for each datum, shape ``(N, P)``."""
        x = self.observations(x, self.obs_dim).to(self.input_loc.dtype)
        return self.encoder((x - self.input_loc) / self.input_scale)

    def distribution(self, x: Float[Tensor, "data obs_dim"]) -> TorchDistribution:
        """Return q(z | x): batch shape ``(N,)``, event shape ``(latent_dim,)``."""
        return self.family.distribution(self.parameters_for(x))

    def standardise_by(self, x: Float[Tensor, "data obs_dim"]) -> Amortized:
        """Let the encoder see inputs in units of these data: centred, with average variance 1.

        One scale serves all dimensions, so that those that hardly vary are not blown up.

        Args:
            x: Data to take the means and the scale from, before training; shape ``(N, obs_dim)``.
        """
        x = self.observations(x, self.obs_dim).to(self.input_loc)
        self.input_loc.copy_(x.mean(0))
        self.input_scale.fill_((x - x.mean(0)).square().mean().sqrt().clamp_min(1e-6).item())
        return self

    @property
    def num_parameters(self) -> int:
        """Number of weights of the encoder."""
        return sum(parameter.numel() for parameter in self.parameters())
