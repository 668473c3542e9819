r"""The base of guides that draw layers in the order of the prior, from the top down.

.. math:: q(z_1, \dots, z_L \mid x) = q(z_L \mid x) \prod_{l < L} q(z_l \mid z_{>l}, x)

The KL divergence of such a guide to the prior is a sum of conditional divergences, one for each
layer, the layer's rate; so a weight for each of them has a meaning.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import pyro
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrolvm.amortization.layered_guide import LayeredGuide
from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.objectives.rate_weights import checked_weights

RateWeights = Mapping[str, float | Tensor] | Sequence[float | Tensor] | Tensor | float
"""Weights by name of the layer, one for each layer, bottom first, or one for all."""


class TopDownGuide(LayeredGuide):
    """A guide with a rate for each layer; it carries the weights of the rates as data.

    The weights do not change what the guide samples or scores. Objectives read them.

    Args:
        model: Any object with several latent layers.
        rate_weights: Weight of each layer's rate by name, 0 or more; 1 where it is not given. Or a
            list of them, one for each layer, bottom first, or one number for all.

    Attributes:
        rate_weights: Weight of every layer's rate by name, top first.

    Raises:
        IncompatiblePairError: If the model lacks what the guide requires.
        UnknownNameError: If a weight is for a layer that the model does not have.
        SettingError: If a weight is negative or not finite, or a list of them has another length.
    """

    top_down = True
    rate_weights: dict[str, float | Tensor]

    def __init__(self, model: Any, rate_weights: RateWeights | None = None) -> None:
        super().__init__(model)
        self.rate_weights = checked_rate_weights(rate_weights, self.sites)

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> dict[str, Tensor]:
        """Sample every layer, top first, given observations of shape ``(N, obs_dim)``."""
        x = self.observations(x, self.obs_dim)
        features = self.features(x)
        latents: dict[str, Tensor] = {}
        with pyro.plate("data", x.shape[-2], dim=-1):
            for site in self.sites:
                latents[site] = pyro.sample(site, self.posterior_from(features, site, latents))
        return latents

    def layer_posterior(
        self, site: str, above: Mapping[str, Tensor], x: Float[Tensor, "data obs_dim"]
    ) -> TorchDistribution:
        """Return q(z_l | z_{>l}, x).

        Args:
            site: Name of the layer.
            above: Values of the layers above it by name, ``(..., N, width)`` each.
            x: Observations, shape ``(N, obs_dim)``.

        Returns:
            Batch shape ``(..., N)``, event shape ``(width,)``.

        Raises:
            UnknownNameError: If there is no such layer.
        """
        if site not in self.sites:
            raise UnknownNameError("layer", site, self.sites)
        return self.posterior_from(self.features(self.observations(x, self.obs_dim)), site, above)

    @abstractmethod
    def features(self, x: Float[Tensor, "data obs_dim"]) -> Mapping[str, Tensor]:
        """Return what each layer's q reads of the observations, ``(N, ...)`` by name."""

    @abstractmethod
    def posterior_from(
        self, features: Mapping[str, Tensor], site: str, above: Mapping[str, Tensor]
    ) -> TorchDistribution:
        """Return q(z_l | z_{>l}, x), x given by its features."""


def checked_rate_weights(
    rate_weights: RateWeights | None, sites: tuple[str, ...]
) -> dict[str, float | Tensor]:
    """Return a weight for each layer, 1 where none is given.

    Raises:
        UnknownNameError: If a name is not a layer.
        SettingError: If a weight is no number, negative or not finite, or a list has not one for
            each layer.
    """
    given = _by_name(rate_weights, sites)
    for name in given:
        if name not in sites:
            raise UnknownNameError("layer in rate_weights", name, sites)
    checked_weights(given)
    return {site: given.get(site, 1.0) for site in sites}


def _by_name(
    rate_weights: RateWeights | None, sites: tuple[str, ...]
) -> dict[str, float | Tensor]:
    if rate_weights is None:
        return {}
    if isinstance(rate_weights, Mapping):
        return dict(rate_weights)
    if isinstance(rate_weights, int | float) or (
        isinstance(rate_weights, Tensor) and rate_weights.dim() == 0
    ):
        return dict.fromkeys(sites, rate_weights)
    if len(rate_weights) != len(sites):
        raise SettingError(
            f"rate_weights in a list need one for each of the {len(sites)} layers, bottom first, "
            f"but there are {len(rate_weights)}. Name the layers to set some of them."
        )
    return dict(zip(reversed(sites), rate_weights, strict=True))
