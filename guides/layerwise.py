r"""Layerwise guide: a network of its own for each layer, drawn from the top down.

.. math:: q(z_1, \dots, z_L \mid x) = q(z_L \mid x) \prod_{l < L} q(z_l \mid z_{>l}, x)

The rate of the guide is then a sum over layers, and the objective

.. math:: E_q[\log p(x \mid z)] - \sum_l \beta_l \, E_q
          \operatorname{KL}(q(z_l \mid z_{>l}, x) \,\|\, p(z_l \mid z_{>l}))

may weigh each of them on its own. With weights other than 1 the best guide is not the posterior.

References:
    Xiao & Bamler (2023), Trading Information between Latents in Hierarchical Variational
    Autoencoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrolvm.amortization.layered_guide import CHANNELS
from pyrolvm.amortization.top_down_guide import RateWeights, TopDownGuide
from pyrolvm.core import HasOptimalLayers
from pyrolvm.core.errors import IncompatiblePairError, SettingError, UnknownNameError
from pyrolvm.core.pairing import offers
from pyrolvm.nn.gaussian_head import side_by_side

FAMILIES = ("gaussian", "optimal")


class Layerwise(TopDownGuide):
    """A law with independent dimensions for each layer; its network reads x and all layers above.

    Layers with a real prior get diagonal Gaussians that are close to the standard normal before
    training; layers of zeros and ones get units that are mostly off.

    Args:
        model: Any object with several latent layers.
        rate_weights: Weight of each layer's rate by name, 0 or more; 1 where it is not given. Or a
            list of them, one for each layer, bottom first, or one number for all.
        family: ``"gaussian"`` (of zeros and ones: Bernoulli), or ``"optimal"``: the best guide for
            the weights, in closed form, for models that know it.
        hidden: Widths of the hidden layers of each network; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        network: What x passes first: ``"mlp"`` (nothing), or ``"conv"``, convolutions of images.
        image_shape: Channels, height and width (``conv``); the model's own where it is None.
        channels: Channels after each convolution (``conv``).

    Raises:
        IncompatiblePairError: If the model has no layers, or does not know its optimal guide.
        UnknownNameError: If a weight is for a layer that the model does not have, or there is no
            such family, network or activation.
        SettingError: If a weight is negative, or the images do not fit.

    >>> from pyrolvm.models import HierarchicalVAE
    >>> model = HierarchicalVAE(latent_dims=(3, 2), obs_dim=5)
    >>> guide = Layerwise(model, rate_weights={"z_2": 0.5})
    >>> guide.rate_weights
    {'z_2': 0.5, 'z_1': 1.0}
    """

    def __init__(
        self,
        model: Any,
        rate_weights: RateWeights | None = None,
        family: str = "gaussian",
        hidden: Sequence[int] = (96,),
        activation: str = "silu",
        network: str = "mlp",
        image_shape: Sequence[int] | None = None,
        channels: Sequence[int] = CHANNELS,
    ) -> None:
        super().__init__(model, rate_weights)
        if family not in FAMILIES:
            raise UnknownNameError("family of Layerwise", family, FAMILIES)
        self.family = family
        self.readers, self.heads = nn.ModuleDict(), nn.ModuleDict()
        if family == "optimal":
            self._require_optimum(model)
            return
        num_above = 0
        for site in self.sites:
            reader, width = self.make_reader(network, image_shape, channels, activation)
            self.readers[site] = reader
            self.heads[site] = self.make_head(site, width + num_above, hidden, activation)
            num_above += self.layer_dims[site]

    @classmethod
    def optimal(cls, model: Any, rate_weights: RateWeights | None = None) -> Layerwise:
        """Return the best guide for these weights, which follows the model's parameters.

        Its layers have any covariance, and it has no parameters of its own. With all weights 1 it
        is the posterior.

        Args:
            model: A hierarchy that knows its best guide (``optimal_layer``).
            rate_weights: Positive weight of each layer's rate; 1 where it is not given.

        Raises:
            IncompatiblePairError: If the model does not know it.
            SettingError: If a weight is not positive.
        """
        return cls(model, rate_weights, family="optimal")

    def features(self, x: Float[Tensor, "data obs_dim"]) -> Mapping[str, Tensor]:
        """Return what each layer's own network makes of the observations, ``(N, width)`` each."""
        if self.family == "optimal":
            return dict.fromkeys(self.sites, x)
        inputs = self.standardised(x)
        return {site: reader(inputs) for site, reader in self.readers.items()}

    def posterior_from(
        self, features: Mapping[str, Tensor], site: str, above: Mapping[str, Tensor]
    ) -> TorchDistribution:
        """Return q(z_l | z_{>l}, x), x given by its features."""
        if self.family == "optimal":
            return self.model.optimal_layer(site, above, features[site], self.rate_weights)
        higher = self.sites[: self.sites.index(site)]
        return self.heads[site](side_by_side([features[site], *(above[name] for name in higher)]))

    def _require_optimum(self, model: Any) -> None:
        if not offers(model, HasOptimalLayers):
            raise IncompatiblePairError(
                "Layerwise with family='optimal' needs a model with the capability "
                f"HasOptimalLayers, which {type(model).__name__} does not offer. Use "
                "family='gaussian', or a HierarchicalLinearGaussian."
            )
        for site, weight in self.rate_weights.items():
            if float(torch.as_tensor(weight).detach()) == 0:
                raise SettingError(
                    "Layerwise with family='optimal' needs positive rate_weights, but that of "
                    f"{site!r} is 0."
                )
