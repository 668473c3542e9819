r"""Bottom-up guide: each layer is inferred from a draw of the one below.

.. math:: q(z_1, \dots, z_L \mid x) = q(z_1 \mid x) \prod_{l > 1} q(z_l \mid z_{l-1})

Its order is not that of the prior. The sum of log q - log p over layers is still a divergence, but
the terms of single layers are none, and can be negative; and given z_1 the upper layers hold no
further information about x. The guide stands here for contrast.

References:
    Rezende, Mohamed & Wierstra (2014), Stochastic Backpropagation and Approximate Inference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.amortization.layered_guide import CHANNELS, LayeredGuide
from pyrolvm.core.errors import SettingError


class BottomUp(LayeredGuide):
    """A law with independent dimensions for each layer; its network reads the layer below, or x.

    Layers with a real prior get diagonal Gaussians that are close to the standard normal before
    training; layers of zeros and ones get units that are mostly off.

    Args:
        model: Any object with several latent layers.
        hidden: Widths of the hidden layers of each network; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        network: What x passes first: ``"mlp"`` (nothing), or ``"conv"``, convolutions of images.
        image_shape: Channels, height and width (``conv``); the model's own where it is None.
        channels: Channels after each convolution (``conv``).
        rate_weights: Refused: this guide has no rate for each layer.

    Raises:
        IncompatiblePairError: If the model has no layers.
        SettingError: If weights of rates are given, or the images do not fit.
        UnknownNameError: If there is no such network or activation.

    >>> import torch
    >>> from pyrolvm.models import HierarchicalVAE
    >>> guide = BottomUp(HierarchicalVAE(latent_dims=(3, 2), obs_dim=5))
    >>> guide(torch.zeros(7, 5))["z_2"].shape
    torch.Size([7, 2])
    """

    top_down = False

    def __init__(
        self,
        model: Any,
        hidden: Sequence[int] = (96,),
        activation: str = "silu",
        network: str = "mlp",
        image_shape: Sequence[int] | None = None,
        channels: Sequence[int] = CHANNELS,
        rate_weights: Mapping[str, float | Tensor] | None = None,
    ) -> None:
        super().__init__(model)
        if rate_weights is not None:
            raise SettingError(
                "BottomUp takes no rate_weights: it draws layers against the order of the prior, "
                "so that its rate does not split into one for each layer. Use Layerwise or Ladder."
            )
        self.reader, width = self.make_reader(network, image_shape, channels, activation)
        self.heads = nn.ModuleDict()
        for site in reversed(self.sites):
            self.heads[site] = self.make_head(site, width, hidden, activation)
            width = self.layer_dims[site]

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> dict[str, Tensor]:
        """Sample every layer, bottom first, given observations of shape ``(N, obs_dim)``."""
        x = self.observations(x, self.obs_dim)
        value = self.reader(self.standardised(x))
        latents: dict[str, Tensor] = {}
        with pyro.plate("data", x.shape[-2], dim=-1):
            for site, head in self.heads.items():
                latents[site] = value = pyro.sample(site, head(value))
        return latents
