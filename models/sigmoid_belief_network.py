r"""Sigmoid belief network: layers of binary units, each drawn given the one above.

.. math:: z_L \sim \text{Bernoulli}(\operatorname{sigmoid} a), \qquad
          z_{l} \mid z_{l+1} \sim \text{Bernoulli}(\operatorname{sigmoid}(b_l + W_l z_{l+1})),
          \qquad x \mid z_1 \sim \text{Bernoulli}(\operatorname{sigmoid}(b_0 + W_0 z_1))

Units of one layer are independent given the next one above, but not given x: they explain each
other away, and no guide with independent units is exact.

References:
    Neal (1992), Connectionist Learning of Belief Networks.
    Bornschein, Shabanian, Fischer & Bengio (2016), Bidirectional Helmholtz Machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyro
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrolvm.core import Model
from pyrolvm.core.errors import DataError, SettingError, UnknownNameError, require_at_least
from pyrolvm.core.model import holds_more_than_bits
from pyrolvm.nn.bernoulli_layer import BernoulliLayer, BernoulliTop, units


class SigmoidBeliefNetwork(Model):
    """A stack of binary layers over binary observations; the guide is chosen apart.

    Before training all units are mostly off, and hardly depend on the layer above. The log odds
    of the top learn as the weights do.

    Args:
        layers: Widths of the latent layers, bottom first: z_1, next to x, to z_L.
        obs_dim: Dimension of x, zeros and ones.
        num_deterministic: Tanh layers without noise between any two neighbours, x included; each
            is as wide as the mean of the two.

    Attributes:
        latent_sites: Names of the layers, top first: ``("z_L", ..., "z_1")``.
        layer_dims: Width of each layer by name.

    Raises:
        SettingError: If there is no layer, or a width is not a positive whole number.

    >>> model = SigmoidBeliefNetwork(layers=(3, 2), obs_dim=5)
    >>> model(size=4).shape, model.latent_sites
    (torch.Size([4, 5]), ('z_2', 'z_1'))
    """

    latent_sites: tuple[str, ...]  # type: ignore[misc]

    def __init__(
        self,
        layers: Sequence[int] | int = (100, 50, 25),
        obs_dim: int = 64,
        num_deterministic: int = 0,
    ) -> None:
        super().__init__()
        widths = (layers,) if isinstance(layers, int) else tuple(layers)
        require_at_least(1, num_layers=len(widths))
        _check_widths(widths, obs_dim)
        self.latent_sites = tuple(f"z_{layer}" for layer in range(len(widths), 0, -1))
        self.layer_dims = dict(zip(self.latent_sites, reversed(widths), strict=True))
        self.obs_dim = obs_dim
        self.layers = nn.ModuleDict({self.latent_sites[0]: BernoulliTop(widths[-1])})
        for above, site in pairwise((*self.latent_sites, "x")):
            dim = self.layer_dims.get(site, obs_dim)
            self.layers[site] = BernoulliLayer(self.layer_dims[above], dim, num_deterministic)

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample or score observations of shape ``(N, obs_dim)``."""
        with pyro.plate("data", self.batch_size(x, size), dim=-1):
            latents: dict[str, Tensor] = {}
            for site in self.latent_sites:
                latents[site] = pyro.sample(site, self.layer_prior(site, latents))
            likelihood = self.layer_likelihood(latents)
            return pyro.sample("x", likelihood, obs=None if x is None else x.to(self.dtype))

    @property
    def top_logits(self) -> nn.Parameter:
        """Log odds of the units of the top layer, shape ``(width,)``."""
        top: Any = self.layers[self.latent_sites[0]]
        return top.logits

    def layer_logits(self, site: str, above: Tensor | None) -> Tensor:
        """Return the log odds of a layer's units, or of x, given the next layer above.

        Args:
            site: Name of a latent layer, or ``"x"``.
            above: Value of the next layer above, ``(..., width)``; None at the top.

        Returns:
            Shape ``(..., width of the site)``; ``(width,)`` at the top.

        Raises:
            UnknownNameError: If there is no such layer.
        """
        if site not in self.layers:
            raise UnknownNameError("layer", site, (*self.latent_sites, "x"))
        return self.layers[site](above)

    def layer_prior(self, site: str, above: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(z_l | z_{l+1}); of the layers above, only the next one counts.

        Args:
            site: Name of the layer.
            above: Values of the layers above it by name, ``(..., N, width)`` each.

        Returns:
            Batch shape ``(..., N)`` below the top and ``()`` at the top, event shape ``(width,)``.

        Raises:
            UnknownNameError: If there is no such layer.
        """
        if site not in self.layer_dims:
            raise UnknownNameError("layer", site, self.layer_dims)
        place = self.latent_sites.index(site)
        next_above = above[self.latent_sites[place - 1]] if place else None
        return units(self.layer_logits(site, next_above))

    def layer_likelihood(self, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(x | z_1): batch shape ``(..., N)``, event shape ``(obs_dim,)``."""
        return units(self.layer_logits("x", latents["z_1"]))

    def generate(self, latents: Mapping[str, Tensor]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the probability of a one in each place of x; only ``"z_1"`` is read."""
        return self.layer_logits("x", latents["z_1"]).sigmoid()

    def batch_size(self, x: Tensor | None, size: int | None) -> int:
        """Return the size of the data plate; data must be zeros and ones."""
        found = super().batch_size(x, size)
        if x is not None and holds_more_than_bits(x):
            raise DataError(
                f"A SigmoidBeliefNetwork needs data of zeros and ones, but it got {_described(x)}"
            )
        return found


def _described(x: Tensor) -> str:
    """Say what came in place of zeros and ones, and what to do."""
    if x.isnan().any():
        return "NaN. Leave these rows out, or fill them in."
    low, high = x.min().item(), x.max().item()
    return (
        f"values in [{low:.3g}, {high:.3g}]. Binarise them, for example (x > threshold).float()."
    )


def _check_widths(widths: tuple[int, ...], obs_dim: int) -> None:
    if any(type(width) is not int or width < 1 for width in (*widths, obs_dim)):
        raise SettingError(
            "SigmoidBeliefNetwork needs layers and obs_dim of positive whole numbers, but they "
            f"are {widths} and {obs_dim!r}."
        )
