r"""Linear Gaussian hierarchy: several latent layers of which everything is known in closed form.

.. math:: z_L \sim N(0, I), \qquad z_l \mid z_{l+1} \sim N(W_l z_{l+1}, s_l^2 I), \qquad
          x \mid z_1 \sim N(V z_1, \sigma^2 I)

The evidence is :math:`N(x; 0, \sigma^2 I + \sum_l s_l^2 A_l A_l^\top)` with
:math:`A_l = V W_1 \cdots W_{l-1}` and :math:`s_L = 1`, the posterior a Gaussian over all layers.
So is, for any weights of the layers' rates, the best guide that is drawn from the top down
(:mod:`pyrolvm.exact.linear_hierarchy`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import MultivariateNormal, Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.core import Model
from pyrolvm.core.errors import SettingError, UnknownNameError, require_at_least
from pyrolvm.exact.linear_hierarchy import LinearHierarchy
from pyrolvm.nn.noise import LearnedScale


@dataclass(frozen=True)
class OptimalLayers:
    """What the best guide for some weights costs, for each datum in nats.

    Args:
        rates: Mean of log q - log p of each layer by name, shape ``(N,)`` each.
        distortion: Mean of -log p(x | z_1), shape ``(N,)``.
        loss: Distortion plus weighted rates, the smallest loss, shape ``(N,)``.
    """

    rates: dict[str, Tensor]
    distortion: Tensor
    loss: Tensor


class HierarchicalLinearGaussian(Model):
    """Latent layers that are linear in the next one, and observations linear in the lowest.

    Args:
        latent_dims: Widths of the layers, bottom first: z_1, next to x, to z_L.
        obs_dim: Dimension of x.
        scales: Standard deviations s_l of the layers below the top, bottom first, or one for all.
        noise_scale: Standard deviation of x given z_1 at the start.
        learn_noise: Whether the noise is trained.

    Attributes:
        latent_sites: Names of the layers, top first: ``("z_L", ..., "z_1")``.
        layer_dims: Width of each layer by name.
        loadings: V, W_1, ..., W_{L-1}, shape ``(what it makes, width)`` each.

    Raises:
        SettingError: If a width or a scale is not positive, or there are scales for other layers.

    >>> model = HierarchicalLinearGaussian(latent_dims=(3, 2), obs_dim=5)
    >>> model.log_evidence(torch.zeros(4, 5)).shape
    torch.Size([4])
    """

    latent_sites: tuple[str, ...]  # type: ignore[misc]
    scales: Tensor

    def __init__(
        self,
        latent_dims: Sequence[int] | int = (3, 2),
        obs_dim: int = 5,
        scales: Sequence[float] | float = 0.7,
        noise_scale: float = 0.5,
        learn_noise: bool = False,
    ) -> None:
        super().__init__()
        widths = (latent_dims,) if isinstance(latent_dims, int) else tuple(latent_dims)
        require_at_least(1, num_layers=len(widths), obs_dim=obs_dim)
        require_at_least(1, narrowest_layer=min(widths))
        self.latent_sites = tuple(f"z_{layer}" for layer in range(len(widths), 0, -1))
        self.layer_dims = dict(zip(self.latent_sites, reversed(widths), strict=True))
        self.obs_dim = obs_dim
        makes = (obs_dim, *widths[:-1])
        self.loadings = nn.ParameterList(
            torch.randn(made, width) / math.sqrt(width)
            for width, made in zip(widths, makes, strict=True)
        )
        self.register_buffer("scales", _checked_scales(scales, len(widths) - 1))
        self.noise = LearnedScale(noise_scale, learn=learn_noise)

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample or score observations of shape ``(N, obs_dim)``."""
        with pyro.plate("data", self.batch_size(x, size), dim=-1):
            latents: dict[str, Tensor] = {}
            for site in self.latent_sites:
                latents[site] = pyro.sample(site, self.layer_prior(site, latents))
            return pyro.sample("x", self.layer_likelihood(latents), obs=x)

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
        layer = self._layer(site)
        if site == self.latent_sites[0]:
            return Normal(self.scales.new_zeros(self.layer_dims[site]), 1.0).to_event(1)
        loc = above[self._next_above(site)] @ self.loadings[layer + 1].mT
        return Normal(loc, self.scales[layer]).to_event(1)

    def layer_likelihood(self, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(x | z_1), event shape ``(obs_dim,)``, from the layers' values by name."""
        return Normal(self.generate(latents), self.noise()).to_event(1)

    def generate(self, latents: Mapping[str, Tensor]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the mean of x given the layers' values by name; only ``"z_1"`` is read."""
        return latents["z_1"] @ self.loadings[0].mT

    @property
    def data_covariance(self) -> Float[Tensor, "obs_dim obs_dim"]:
        """Covariance of x, float64; its mean is 0."""
        return self._hierarchy({}).spreads[-1]

    def log_evidence(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, float64, shape ``(N,)``, differentiable in the parameters."""
        self.batch_size(x, None)
        x = x.double()
        return MultivariateNormal(x.new_zeros(self.obs_dim), self.data_covariance).log_prob(x)

    def joint_posterior(self, x: Float[Tensor, "data obs_dim"]) -> MultivariateNormal:
        """Return p(z_L, ..., z_1 | x), float64: layers side by side, top first.

        Returns:
            Batch shape ``(N,)``, event shape of all widths together.
        """
        self.batch_size(x, None)
        return self._hierarchy({}).posterior(x.double())

    def layer_posterior(self, site: str, x: Float[Tensor, "data obs_dim"]) -> MultivariateNormal:
        """Return p(z_l | x) of one layer, float64: batch ``(N,)``, event ``(width,)``."""
        self._layer(site)
        joint, start = self.joint_posterior(x), 0
        for name in self.latent_sites[: self.latent_sites.index(site)]:
            start += self.layer_dims[name]
        here = slice(start, start + self.layer_dims[site])
        return MultivariateNormal(joint.loc[:, here], joint.covariance_matrix[..., here, here])

    def optimal_layer(
        self,
        site: str,
        above: Mapping[str, Tensor],
        x: Float[Tensor, "data obs_dim"],
        rate_weights: Mapping[str, float | Tensor],
    ) -> MultivariateNormal:
        """Return q(z_l | z_{>l}, x) of the best guide for these weights of the rates.

        Args:
            site: Name of the layer.
            above: Values of the layers above it by name, ``(..., N, width)`` each.
            x: Observations, shape ``(N, obs_dim)``.
            rate_weights: Positive weight of each layer's rate; 1 where it is not given.

        Returns:
            Batch shape ``(..., N)``, event shape ``(width,)``, in the model's type.

        Raises:
            SettingError: If a weight is not positive.
            UnknownNameError: If there is no such layer.
        """
        layer = self._layer(site)
        is_top = site == self.latent_sites[0]
        value = None if is_top else above[self._next_above(site)].double()
        best = self._hierarchy(rate_weights).layer(layer, value, x.double())
        loc, scale_tril = (tensor.to(self.scales.dtype) for tensor in (best.loc, best.scale_tril))
        return MultivariateNormal(loc, scale_tril=scale_tril)

    def optimal_layers(
        self, x: Float[Tensor, "data obs_dim"], rate_weights: Mapping[str, float | Tensor]
    ) -> OptimalLayers:
        """Return rates, distortion and loss of the best guide for these weights, in float64.

        They are differentiable in the weights, where those are tensors, and in the parameters.

        Args:
            x: Observations, shape ``(N, obs_dim)``.
            rate_weights: Positive weight of each layer's rate; 1 where it is not given.

        Raises:
            SettingError: If a weight is not positive.
            UnknownNameError: If a name is not a layer.
        """
        self.batch_size(x, None)
        terms = self._hierarchy(rate_weights).optimal_terms(x.double())
        rates = dict(zip(self.latent_sites, reversed(terms.rates), strict=True))
        return OptimalLayers(rates, terms.distortion, terms.loss)

    def optimal_loss(
        self, x: Float[Tensor, "data obs_dim"], rate_weights: Mapping[str, float | Tensor]
    ) -> Float[Tensor, " data"]:
        """Return the smallest loss in nats, float64, shape ``(N,)``, without its terms."""
        self.batch_size(x, None)
        return self._hierarchy(rate_weights).optimal_loss(x.double())

    def _layer(self, site: str) -> int:
        """Position of a layer from the bottom."""
        if site not in self.layer_dims:
            raise UnknownNameError("layer", site, self.layer_dims)
        return len(self.latent_sites) - 1 - self.latent_sites.index(site)

    def _next_above(self, site: str) -> str:
        return self.latent_sites[self.latent_sites.index(site) - 1]

    def _hierarchy(self, rate_weights: Mapping[str, float | Tensor]) -> LinearHierarchy:
        scales = [*self.scales.double().unbind(), self.scales.new_ones(()).double()]
        return LinearHierarchy(
            [loading.double() for loading in self.loadings],
            scales,
            self.noise().double().squeeze(),
            self._weights(rate_weights),
        )

    def _weights(self, rate_weights: Mapping[str, float | Tensor]) -> list[Tensor]:
        """Weights bottom first."""
        for name, weight in rate_weights.items():
            self._layer(name)
            value = float(torch.as_tensor(weight).detach())
            if not 0 < value < math.inf:
                raise SettingError(
                    "An optimal guide needs positive and finite rate_weights, but that of "
                    f"{name!r} is {value:g}."
                )
        weights = (rate_weights.get(site, 1.0) for site in reversed(self.latent_sites))
        device = self.scales.device
        return [torch.as_tensor(w, dtype=torch.float64, device=device) for w in weights]


def _checked_scales(scales: Sequence[float] | float, count: int) -> Tensor:
    values = [scales] * count if isinstance(scales, int | float) else list(scales)
    if len(values) != count or not all(0 < value < math.inf for value in values):
        raise SettingError(
            f"The {count} layers below the top need one positive scale each, bottom first, but "
            f"the scales are {scales}."
        )
    return torch.tensor(values, dtype=torch.get_default_dtype())
