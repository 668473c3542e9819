r"""Helmholtz-coupled guide: binary layers inferred from x upwards, each from the one below.

.. math:: q(z_1, \dots, z_L \mid x) = q(z_1 \mid x) \prod_{l > 1} q(z_l \mid z_{l-1}), \qquad
          q(z_l \mid z_{l-1}) = \text{Bernoulli}(\operatorname{sigmoid}(c_l + V_l z_{l-1}))

The mirror image of a belief network. Trained on
:class:`pyrolvm.objectives.CoupledELBO` it and the model meet at the geometric mean of their joint
distributions, which keeps deep stacks of layers within each other's reach.

References:
    Dayan, Hinton, Neal & Zemel (1995), The Helmholtz Machine.
    Bornschein, Shabanian, Fischer & Bengio (2016), Bidirectional Helmholtz Machines.
"""

from __future__ import annotations

from typing import Any

import pyro
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.core import Guide, Layered
from pyrolvm.core.errors import UnknownNameError
from pyrolvm.core.layer_laws import first_layer_beyond
from pyrolvm.nn.bernoulli_layer import BernoulliLayer, units


class HelmholtzCoupled(Guide):
    """Bottom-up binary layers, one affine map of log odds each.

    Args:
        model: Any object with latent layers of zeros and ones.
        num_deterministic: Tanh layers without noise between any two neighbours, x included; each
            is as wide as the mean of the two.

    Attributes:
        sites: Names of the layers, top first.
        layer_dims: Width of each layer by name.

    Raises:
        IncompatiblePairError: If the model has no layers, or one that is not of zeros and ones.
        SettingError: If a number is out of range.

    >>> import torch
    >>> from pyrolvm.models import SigmoidBeliefNetwork
    >>> guide = HelmholtzCoupled(SigmoidBeliefNetwork(layers=(3, 2), obs_dim=5))
    >>> guide(torch.zeros(7, 5))["z_2"].shape
    torch.Size([7, 2])
    """

    requires = (Layered,)
    top_down = False

    def __init__(self, model: Any, num_deterministic: int = 0) -> None:
        super().__init__(model)
        self.sites: tuple[str, ...] = tuple(model.latent_sites)
        self.layer_dims: dict[str, int] = dict(model.layer_dims)
        self.obs_dim: int = model.obs_dim
        self.layers = nn.ModuleDict()
        width = self.obs_dim
        for site in reversed(self.sites):
            self.layers[site] = BernoulliLayer(width, self.layer_dims[site], num_deterministic)
            width = self.layer_dims[site]

    @classmethod
    def obstacle(cls, model: Any) -> str | None:
        """Refuse layers that are not of zeros and ones."""
        found = first_layer_beyond(model, "binary")
        reason = "HelmholtzCoupled needs layers of zeros and ones"
        return None if found is None else f"{reason}, but {found}"

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> dict[str, Tensor]:
        """Sample every layer, bottom first, given observations of shape ``(N, obs_dim)``."""
        x = self.observations(x, self.obs_dim)
        value = x.to(next(self.parameters()).dtype)
        latents: dict[str, Tensor] = {}
        with pyro.plate("data", x.shape[-2], dim=-1):
            for site in reversed(self.sites):
                latents[site] = value = pyro.sample(site, units(self.layer_logits(site, value)))
        return latents

    def layer_logits(self, site: str, below: Tensor) -> Tensor:
        """Return the log odds of a layer's units under q(z_l | z_{l-1}).

        Args:
            site: Name of a latent layer.
            below: Value of the next layer below, or of x for z_1, ``(..., width)``.

        Returns:
            Shape ``(..., width of the site)``.

        Raises:
            UnknownNameError: If there is no such layer.
        """
        if site not in self.layers:
            raise UnknownNameError("layer", site, self.sites)
        return self.layers[site](below)
