r"""Log evidence with exact first derivatives (Fisher's identity on frozen codes).

.. math:: \partial_\theta \log p(x)
          = E_{p(z \mid x)} \big[ \partial_\theta \log N(x; g_\theta(z), \Sigma_x) \big]

holds although the regions move with theta, because g is continuous across their borders. In
whitened coordinates the prior's parameters sit in the first layer. With the posterior's moments
summed over data, region by region, the right side is the gradient of a function of the region's
affine maps, which autograd carries on to every layer.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrolvm.exact.errors import SecondDerivativeError
from pyrolvm.exact.folding import Array
from pyrolvm.exact.learning.statistics import RegionMoments
from pyrolvm.exact.partition import DEFAULT_MAX_REGIONS, Partition
from pyrolvm.exact.posterior import PiecewisePosterior
from pyrolvm.exact.propagation import hidden_maps
from pyrolvm.exact.solving import one_each, solve_one
from pyrolvm.exact.stack import AffineStack


def log_evidence(
    stack: AffineStack,
    x: Tensor,
    *,
    partition: Partition | Sequence[Partition] | None = None,
    box: float | None = None,
    max_regions: int = DEFAULT_MAX_REGIONS,
) -> Tensor:
    """Exact log evidence, differentiable once in the generator's tensors and in x.

    Args:
        stack: The generator; one to five latent coordinates.
        x: Observations, ``(N, D)``.
        partition: Regions of this generator, if known; one for each component of a mixture.
        box: See :func:`~pyrolvm.exact.solve`.
        max_regions: See :func:`~pyrolvm.exact.solve`.

    Returns:
        Log p(x_n) in nats, float64, ``(N,)``.

    Raises:
        LatentDimensionError: And whatever else :func:`~pyrolvm.exact.solve` raises.
        SecondDerivativeError: If a gradient of this is differentiated again.
    """
    if stack.prior_logits is not None:
        components = stack.components()
        partitions = one_each(partition, len(components))
        each = [
            log_evidence(component, x, partition=found, box=box, max_regions=max_regions)
            for component, found in zip(components, partitions, strict=True)
        ]
        weights = stack.prior_logits.double().log_softmax(0).to(x.device)
        return (torch.stack(each, 1) + weights).logsumexp(1)

    def run() -> PiecewisePosterior:
        return solve_one(stack, x, one_each(partition, 1)[0], box, max_regions)

    scalars = (stack.noise_scale, stack.prior_loc, stack.prior_scale_tril)
    return _LogEvidence.apply(run, stack.slopes, x, *scalars, *stack.weights, *stack.biases)


class _LogEvidence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Any, slopes: Any, x: Tensor, *tensors: Tensor) -> Tensor:
        posterior = run()
        ctx.posterior, ctx.slopes = posterior, slopes
        ctx.save_for_backward(x, *tensors)
        return posterior.log_evidence.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        x, *tensors = ctx.saved_tensors
        with torch.no_grad():
            gradients = _gradients(ctx, x, tensors, upstream)
        if torch.is_grad_enabled():
            # once_differentiable would drop the second derivative silently in most cases
            gradients = [
                None if gradient is None else _RefuseSecond.apply(gradient, upstream, x, *tensors)
                for gradient in gradients
            ]
        return (None, None, *gradients)


class _RefuseSecond(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *_: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise SecondDerivativeError(
            "log_evidence has exact first derivatives only, but a second one was asked for. Use "
            "finite differences of the gradient, or drop create_graph."
        )


def _gradients(
    ctx: Any, x: Tensor, tensors: list[Tensor], upstream: Tensor
) -> list[Tensor | None]:
    """Gradients in x, noise, prior and layers, in the order of the inputs; None if not needed."""
    needed = ctx.needs_input_grad[2:]
    sums = _Sums(ctx.posterior, x, upstream)
    scale, loc, tril, *layers = tensors
    depth = len(layers) // 2
    weights, biases = layers[:depth], layers[depth:]
    gradients: list[Tensor | None] = [None] * (1 + len(tensors))
    outer = {
        0: (sums.observation, x),
        1: (sums.noise, scale),
        3 + depth: (sums.last_weight, weights[-1]),
        3 + 2 * depth: (sums.last_bias, biases[-1]),
    }
    for index, (gradient, like) in outer.items():
        if needed[index]:
            gradients[index] = gradient().to(like)
    inner = {2: loc, 3: tril}
    inner |= {4 + i: weight for i, weight in enumerate(weights[:-1])}
    inner |= {4 + depth + i: bias for i, bias in enumerate(biases[:-1])}
    wanted = [index for index in inner if needed[index]]
    if wanted:
        leaves = {i: tensor.detach().double().cpu() for i, tensor in inner.items()}
        leaves |= {i: leaves[i].clone().requires_grad_() for i in wanted}
        hidden_weights = [leaves[4 + i] for i in range(depth - 1)]
        hidden_biases = [leaves[4 + depth + i] for i in range(depth - 1)]
        with torch.enable_grad():
            surrogate = sums.surrogate(
                leaves[2], leaves[3], hidden_weights, hidden_biases, ctx.slopes
            )
            found = torch.autograd.grad(surrogate, [leaves[i] for i in wanted])
        for index, value in zip(wanted, found, strict=True):
            gradients[index] = value.to(inner[index])
    return gradients


class _Sums:
    """Posterior moments, weighted by the upstream gradient and summed over data.

    The last hidden layer is h = H_0 + J (u - c) on each region (h = z if there is none).
    """

    def __init__(self, posterior: PiecewisePosterior, x: Tensor, upstream: Tensor) -> None:
        folded, found = posterior.folded, posterior.expectation
        self.weight = upstream.detach().double().cpu().numpy()
        self.scale = folded.noise_scale
        self.moments = moments = RegionMoments(found, self.weight)
        self.anchors, self.codes = moments.anchors, moments.codes
        if folded.weights:
            hidden, jacobian = hidden_maps(folded, self.anchors, self.codes)
            matrix, bias = folded.last, folded.last_bias
            matrix = matrix if folded.basis is None else folded.basis @ matrix
            self.matrix = matrix * self.scale[:, None]
        else:
            hidden = folded.to_latent(self.anchors)
            tril = folded.prior_scale_tril
            jacobian = np.broadcast_to(tril.T, (len(hidden), *tril.shape))
            matrix = folded.last if folded.basis is None else folded.basis @ folded.last
            self.matrix = (matrix * self.scale[:, None]) @ np.linalg.inv(tril)
            bias = folded.last_bias - self.matrix @ folded.prior_loc
        self.maps = np.concatenate([hidden[:, None], jacobian], 1)
        values = x.detach().double().cpu().numpy()
        self.target = values - bias
        self.features = moments.expected(self.maps)
        self.error = self.target - self.features @ self.matrix.T
        weighted = self.features * self.weight[:, None]
        self.spread = moments.second(self.maps) - weighted.T @ self.features

    def observation(self) -> Tensor:
        """Gradient in x, ``(N, D)``."""
        return torch.from_numpy(-self.error / self.scale**2 * self.weight[:, None])

    def last_bias(self) -> Tensor:
        """Gradient in the last bias, ``(D,)``."""
        return torch.from_numpy(self.weight @ self.error / self.scale**2)

    def last_weight(self) -> Tensor:
        """Gradient in the last weight matrix, ``(D, H)``."""
        cross = (self.error * self.weight[:, None]).T @ self.features - self.matrix @ self.spread
        return torch.from_numpy(cross / self.scale[:, None] ** 2)

    def noise(self) -> Tensor:
        """Gradient in the noise scale, ``(D,)``."""
        square = self.weight @ self.error**2
        square = square + np.einsum("dh,hg,dg->d", self.matrix, self.spread, self.matrix)
        return torch.from_numpy(square / self.scale**3 - self.weight.sum() / self.scale)

    def surrogate(
        self,
        loc: Tensor,
        tril: Tensor,
        weights: list[Tensor],
        biases: list[Tensor],
        slopes: tuple[float, ...],
    ) -> Tensor:
        """Function of the hidden layers and the prior whose gradient is that of the evidence."""
        value, jacobian = self._frozen_maps(loc, tril, weights, biases, slopes)
        pull = torch.from_numpy(self._pull())
        return (pull[:, 0] * value).sum() + (pull[:, 1:] * jacobian).sum()

    def _pull(self) -> Array:
        """Derivative of the log evidence in each region's map of the last hidden layer."""
        scaled = self.matrix / self.scale[:, None] ** 2
        data = self.moments.cross(self.target @ scaled)
        return data - self.moments.outer @ (self.maps @ (self.matrix.T @ scaled))

    def _frozen_maps(
        self,
        loc: Tensor,
        tril: Tensor,
        weights: list[Tensor],
        biases: list[Tensor],
        slopes: tuple[float, ...],
    ) -> tuple[Tensor, Tensor]:
        tril = tril.tril()
        value = torch.from_numpy(self.anchors) @ tril.T + loc
        jacobian = tril.T.expand(len(value), -1, -1)
        first = 0
        for weight, bias, slope in zip(weights, biases, slopes, strict=True):
            value, jacobian = value @ weight.T + bias, jacobian @ weight.T
            active = torch.from_numpy(self.codes[:, first : first + len(bias)])
            first += len(bias)
            gains = active.double() * (1.0 - slope) + slope  # where() would be float32
            value, jacobian = value * gains, jacobian * gains[:, None]
        return value, jacobian
