r"""The best guide of a linear Gaussian hierarchy for any weights of its layers' rates.

.. math:: z_L \sim N(0, I), \qquad z_l \mid z_{l+1} \sim N(W_l z_{l+1}, s_l^2 I), \qquad
          x \mid z_1 \sim N(V z_1, \sigma^2 I)

The loss :math:`E_q[-\log p(x \mid z_1)] + \sum_l \beta_l R_l` of a guide drawn from the top down
is smallest for

.. math:: q(z_l \mid z_{l+1}, x) \propto N(z_l; W_l z_{l+1}, s_l^2 I) \,
          N(x; A_l z_l, \beta_l C_{l-1}), \qquad
          C_l = \sigma^2 I + \sum_{j \le l} \frac{s_j^2}{\beta_j} A_j A_j^\top

with :math:`A_l = V W_1 \cdots W_{l-1}` the map from a layer to the mean of x. It follows by
induction: integrating a layer out of a Gaussian leaves a Gaussian around the next layer's image,
with C grown by one term. The smallest loss of a datum, in nats, is

.. math:: \tfrac n2 \log(2 \pi \sigma^2) + \tfrac 12 x^\top C_L^{-1} x
          + \tfrac 12 \sum_l \beta_l \log \frac{|C_l|}{|C_{l-1}|}

which for weights of 1 is -log p(x). Layers are counted from the bottom here, z_1 first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from pyro.distributions import MultivariateNormal
from torch import Tensor


@dataclass(frozen=True)
class OptimalTerms:
    """What the best guide costs, for each datum in nats.

    Args:
        rates: Of each layer, bottom first, shape ``(N,)`` each.
        distortion: Mean of -log p(x | z_1), shape ``(N,)``.
        loss: Distortion plus weighted rates, shape ``(N,)``.
    """

    rates: tuple[Tensor, ...]
    distortion: Tensor
    loss: Tensor


@dataclass(frozen=True)
class LinearHierarchy:
    """A linear Gaussian hierarchy and the weights of its rates, as tensors of one type.

    Args:
        loadings: V, W_1, ..., W_{L-1}: the map from each layer, bottom first, to what it makes.
        scales: s_1, ..., s_L, standard deviations of the layers; the last is 1.
        noise_scale: σ, standard deviation of x.
        weights: β_1, ..., β_L, all positive.
    """

    loadings: Sequence[Tensor]
    scales: Sequence[Tensor]
    noise_scale: Tensor
    weights: Sequence[Tensor]

    @cached_property
    def images(self) -> list[Tensor]:
        """A_1, ..., A_L, the map from each layer to the mean of x."""
        maps = [self.loadings[0]]
        for loading in self.loadings[1:]:
            maps.append(maps[-1] @ loading)
        return maps

    @cached_property
    def spreads(self) -> list[Tensor]:
        """C_0, ..., C_L, shape ``(n, n)`` each."""
        image = self.images[0]
        eye = torch.eye(len(image), dtype=image.dtype, device=image.device)
        spreads = [self.noise_scale**2 * eye]
        for image, scale, weight in zip(self.images, self.scales, self.weights, strict=True):
            spreads.append(spreads[-1] + scale**2 / weight * image @ image.mT)
        return spreads

    def layer(
        self, layer: int, above: Float[Tensor, "*batch up"] | None, x: Float[Tensor, "data n"]
    ) -> MultivariateNormal:
        """Return the best q(z_l | z_{l+1}, x).

        Args:
            layer: Position of the layer from the bottom, 0 for z_1.
            above: Value of the next layer, shape ``(..., N, width)``; None at the top.
            x: Observations, shape ``(N, n)``.

        Returns:
            Batch shape ``(..., N)``, with any covariance.
        """
        covariance, from_above, from_x = self._conditional(layer)
        loc = x @ from_x.mT
        if above is not None and from_above is not None:
            loc = loc + above @ from_above.mT
        return MultivariateNormal(loc, scale_tril=torch.linalg.cholesky(covariance))

    def posterior(self, x: Float[Tensor, "data n"]) -> MultivariateNormal:
        """Return p(z_L, ..., z_1 | x), the layers side by side, top first; weights do not count.

        Args:
            x: Observations, shape ``(N, n)``.
        """
        mixing = self._mixing()
        loading = self.loadings[0] @ mixing[-self.loadings[0].shape[-1] :]
        variance = self.noise_scale**2
        eye = torch.eye(len(mixing), dtype=mixing.dtype, device=mixing.device)
        factor = torch.linalg.cholesky(eye + loading.mT @ loading / variance)
        within = torch.cholesky_inverse(factor)
        loc = x @ loading @ within / variance
        return MultivariateNormal(loc @ mixing.mT, mixing @ within @ mixing.mT)

    def optimal_loss(self, x: Float[Tensor, "data n"]) -> Float[Tensor, " data"]:
        """Return the smallest loss in nats, shape ``(N,)``, by the closed form."""
        logdets = torch.stack([torch.logdet(spread) for spread in self.spreads])
        growth = (torch.stack(list(self.weights)) * logdets.diff()).sum()
        constant = x.shape[-1] * torch.log(math.sqrt(2 * math.pi) * self.noise_scale)
        return constant + 0.5 * (growth + _squared_norm(x, self.spreads[-1]))

    def optimal_terms(self, x: Float[Tensor, "data n"]) -> OptimalTerms:
        """Return rates and distortion of the best guide, from the moments of its layers.

        Args:
            x: Observations, shape ``(N, n)``.
        """
        rates: list[Tensor] = []
        mean: Tensor | None = None
        spread: Tensor | None = None
        for layer in reversed(range(len(self.loadings))):
            covariance, from_above, from_x = self._conditional(layer)
            variance = self.scales[layer] ** 2
            # z_l - W_l z_{l+1} = shift + slope z_{l+1} + noise of this covariance
            shift, excess = x @ from_x.mT, covariance.trace() * x.new_ones(len(x))
            next_mean, next_spread = shift, covariance
            if from_above is not None and mean is not None and spread is not None:
                slope = from_above - self.loadings[layer + 1]
                shift = shift + mean @ slope.mT
                excess = excess + (slope @ spread @ slope.mT).trace()
                next_mean = next_mean + mean @ from_above.mT
                next_spread = next_spread + from_above @ spread @ from_above.mT
            dim = len(covariance)
            ratio = (excess + shift.square().sum(-1)) / variance
            entropy = torch.logdet(covariance) - dim * variance.log()
            rates.insert(0, 0.5 * (ratio - dim - entropy))
            mean, spread = next_mean, next_spread
        assert mean is not None
        assert spread is not None
        distortion = self._distortion(x, mean, spread)
        weighted = sum(weight * rate for weight, rate in zip(self.weights, rates, strict=True))
        return OptimalTerms(tuple(rates), distortion, distortion + weighted)

    def _conditional(self, layer: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Covariance of q(z_l | z_{l+1}, x), and the maps of its mean from z_{l+1} and x."""
        image, variance = self.images[layer], self.scales[layer] ** 2
        gain = torch.linalg.solve(self.weights[layer] * self.spreads[layer], image).mT
        eye = torch.eye(image.shape[-1], dtype=image.dtype, device=image.device)
        factor = torch.linalg.cholesky(eye / variance + gain @ image)
        covariance = torch.cholesky_inverse(factor)
        is_top = layer == len(self.loadings) - 1
        from_above = None if is_top else covariance @ self.loadings[layer + 1] / variance
        return covariance, from_above, covariance @ gain

    def _mixing(self) -> Tensor:
        """The layers, top first, as a linear map of independent standard normal variables."""
        widths = [loading.shape[-1] for loading in self.loadings]
        top = self.loadings[-1]
        own = torch.eye(sum(widths), dtype=top.dtype, device=top.device).split(widths[::-1])
        rows = [self.scales[-1] * own[0]]
        for scale, loading, noise in zip(
            self.scales[-2::-1], self.loadings[:0:-1], own[1:], strict=True
        ):
            rows.append(loading @ rows[-1] + scale * noise)
        return torch.cat(rows)

    def _distortion(self, x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        image, variance = self.images[0], self.noise_scale**2
        squares = (x - mean @ image.mT).square().sum(-1) + (image @ spread @ image.mT).trace()
        return 0.5 * (squares / variance + x.shape[-1] * (2 * math.pi * variance).log())


def _squared_norm(x: Tensor, covariance: Tensor) -> Tensor:
    """Return xᵀ C⁻¹ x of each row."""
    return (x * torch.linalg.solve(covariance, x.mT).mT).sum(-1)
