"""The base of guides with a network that reads observations in standard units."""

from __future__ import annotations

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Guide


class StandardisingGuide(Guide):
    """A guide whose networks see centred observations of average variance 1.

    Args:
        model: Any object with ``latent_sites`` and ``obs_dim``.

    Raises:
        IncompatiblePairError: If the model lacks what the guide requires.
    """

    input_loc: Tensor
    input_scale: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.obs_dim = model.obs_dim
        self.register_buffer("input_loc", torch.zeros(model.obs_dim))
        self.register_buffer("input_scale", torch.ones(model.obs_dim))

    def standardise_by(self, x: Float[Tensor, "data obs_dim"]) -> Self:
        """Let the networks see inputs in units of these data: centred, with average variance 1.

        One scale serves all dimensions, so that those that hardly vary are not blown up.

        Args:
            x: Data to take the means and the scale from, before training; shape ``(N, obs_dim)``.
        """
        x = self.observations(x, self.obs_dim).to(self.input_loc)
        self.input_loc.copy_(x.mean(0))
        self.input_scale.fill_((x - x.mean(0)).square().mean().sqrt().clamp_min(1e-6).item())
        return self

    def standardised(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data obs_dim"]:
        """Return observations in the networks' units and type, shape ``(N, obs_dim)``."""
        x = self.observations(x, self.obs_dim).to(self.input_loc.dtype)
        return (x - self.input_loc) / self.input_scale

    @property
    def num_parameters(self) -> int:
        """Number of weights of the guide."""
        return sum(parameter.numel() for parameter in self.parameters())
