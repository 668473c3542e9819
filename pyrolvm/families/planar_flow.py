r"""Planar normalizing flow with a density that is known at any point.

.. math:: z = m + L \, (f_T \circ \dots \circ f_1)(\varepsilon), \qquad
          f(v) = v + \hat u \tanh(w^\top v + b), \qquad \varepsilon \sim N(0, I)

With :math:`s = w^\top \hat u > -1` every layer is invertible. Its level :math:`a = w^\top v + b`
solves the monotone equation :math:`a + s \tanh a = w^\top f(v) + b`, and
:math:`\det f'(v) = 1 + s \, \operatorname{sech}^2 a`.

References:
    Rezende & Mohamed (2015), Variational Inference with Normalizing Flows, appendix A.1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyrolvm.families.triangular import colour, whiten

MARGIN = 1e-3
"""Smallest derivative of a layer; it keeps the inverse well conditioned."""
MAX_ITERATIONS = 100


class PlanarFlow(TorchDistribution):
    """A Gaussian bent by planar layers; its density and first-order gradients are exact anywhere.

    The density of the latest draw is remembered with its graph, so that training never inverts a
    layer.

    Args:
        loc: Shift m, shape ``(..., D)``.
        scale_tril: Lower triangular L, shape ``(..., D, D)``.
        direction: w of each layer, shape ``(..., T, D)``.
        shift: û of each layer, shape ``(..., T, D)``, with w · û > −1.
        bias: b of each layer, shape ``(..., T)``.
    """

    arg_constraints = {  # noqa: RUF012 - torch reads it from the class
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
        "direction": constraints.independent(constraints.real, 2),
        "shift": constraints.independent(constraints.real, 2),
        "bias": constraints.real_vector,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Float[Tensor, "*batch D"],
        scale_tril: Float[Tensor, "*batch D D"],
        direction: Float[Tensor, "*batch T D"],
        shift: Float[Tensor, "*batch T D"],
        bias: Float[Tensor, "*batch T"],
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale_tril = loc, scale_tril
        self.direction, self.shift, self.bias = direction, shift, bias
        self._drawn: tuple[Tensor, Tensor, bool] | None = None
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PlanarFlow:
        """Expand the batch; new leading dimensions do not copy the parameters."""
        new = self._get_checked_instance(PlanarFlow, _instance)
        batch = torch.Size(batch_shape)
        kept = batch[len(batch) - self.loc.dim() + 1 :]
        new.loc = self.loc.expand(*kept, *self.loc.shape[-1:])
        new.scale_tril = self.scale_tril.expand(*kept, *self.scale_tril.shape[-2:])
        new.direction = self.direction.expand(*kept, *self.direction.shape[-2:])
        new.shift = self.shift.expand(*kept, *self.shift.shape[-2:])
        new.bias = self.bias.expand(*kept, *self.bias.shape[-1:])
        new._drawn = None
        super(PlanarFlow, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = ()) -> Float[Tensor, "*sample D"]:
        """Push noise through the layers, and remember the density of the result."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        value, log_density = self.push(noise)
        self._drawn = (value, log_density, torch.is_grad_enabled())
        return value

    def push(self, point: Float[Tensor, "*sample D"]) -> tuple[Tensor, Tensor]:
        """Push points through the layers.

        Args:
            point: Standard normal noise, broadcastable with ``(..., *batch, D)``.

        Returns:
            The values, shape ``(..., *batch, D)``, and their log densities in nats.
        """
        log_density = _log_standard_normal(point) - self._log_det
        for layer in range(self.bias.shape[-1]):
            direction, shift, bias, rise = self._layer(layer)
            level = (point * direction).sum(-1) + bias
            point = point + shift * level.tanh().unsqueeze(-1)
            log_density = log_density - _log_derivative(level, rise)
        return self.loc + colour(self.scale_tril, point), log_density

    def log_prob(self, value: Float[Tensor, "*sample D"]) -> Float[Tensor, "*sample"]:
        """Return log q(value): remembered for the latest draw, else by inverting the layers."""
        if self._validate_args:
            self._validate_sample(value)
        if self._drawn is not None and self._drawn[0] is value:
            _, log_density, has_graph = self._drawn
            if has_graph or not torch.is_grad_enabled():
                return log_density
        return self._inverted(value)

    def _inverted(self, value: Tensor) -> Tensor:
        value = value.expand(
            torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        )
        point = whiten(self.scale_tril, value - self.loc)
        log_derivative = torch.zeros_like(point[..., 0])
        for layer in reversed(range(self.bias.shape[-1])):
            direction, shift, bias, rise = self._layer(layer)
            level = invert_level((point * direction).sum(-1) + bias, rise)
            point = point - shift * level.tanh().unsqueeze(-1)
            log_derivative = log_derivative + _log_derivative(level, rise)
        return _log_standard_normal(point) - self._log_det - log_derivative

    def _layer(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        direction, shift = self.direction[..., layer, :], self.shift[..., layer, :]
        return direction, shift, self.bias[..., layer], (direction * shift).sum(-1)

    @property
    def _log_det(self) -> Tensor:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _log_standard_normal(point: Tensor) -> Tensor:
    return -0.5 * (point.square() + math.log(2 * math.pi)).sum(-1)


def _sech_squared(level: Tensor) -> Tensor:
    decay = torch.exp(-2 * level.abs())
    return 4 * decay / (1 + decay).square()


def _log_derivative(level: Tensor, rise: Tensor) -> Tensor:
    return torch.log1p((rise * _sech_squared(level)).clamp_min(MARGIN - 1))


def invert_level(
    target: Float[Tensor, "*batch"], rise: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Solve a + s tanh(a) = t for a, with s > −1; differentiable once in t and s.

    Args:
        target: t, any shape.
        rise: s, broadcastable with t.

    Returns:
        The only root, by Newton steps kept inside a bracket, accurate to rounding.
    """
    with torch.no_grad():
        level = _newton(*torch.broadcast_tensors(target, rise))
        slope = (1 + rise * _sech_squared(level)).clamp_min(MARGIN)
    return level - (level + rise * level.tanh() - target) / slope


def _newton(target: Tensor, rise: Tensor) -> Tensor:
    low, high = target - rise.abs(), target + rise.abs()
    level = torch.where(
        rise < 0, target + rise * target.tanh().neg(), target / (1 + rise.clamp_min(0))
    )
    level = level.clamp(low, high)
    tolerance = 4 * torch.finfo(target.dtype).eps
    for _ in range(MAX_ITERATIONS):
        residual = level + rise * level.tanh() - target
        low, high = torch.where(residual <= 0, level, low), torch.where(residual >= 0, level, high)
        step = level - residual / (1 + rise * _sech_squared(level))
        inside = (step >= low) & (step <= high)
        following = torch.where(inside, step, 0.5 * (low + high))
        moved = (following - level).abs()
        level = following
        if bool((moved <= tolerance * (1 + level.abs())).all()):
            break
    return level
