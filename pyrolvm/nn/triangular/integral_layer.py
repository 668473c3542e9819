r"""Autoregressive layer of integrals of a positive network.

.. math:: v_i = \beta_i(u_{<i}) + \int_0^{u_i} g(t;\, u_{<i})\, dt, \qquad
          g(t_k;\, u_{<i}) = \operatorname{softplus}\bigl(\mathrm{net}(t_k, c_i(u_{<i}))\bigr)

The network is evaluated at fixed, equally spaced nodes t_k, and g is their piecewise-linear
interpolant, constant outside. Its integral is a piecewise quadratic known in closed form (the
trapezoidal rule between nodes), its derivative is g, its inverse a square root. So value,
log-determinant and inverse belong to one and the same map, exactly, whatever the weights; with a
quadrature of the network itself the first two would differ by the quadrature's error, and the sum
need not even be increasing. As the nodes become dense the map is the unconstrained monotone
network of the reference.

References:
    Wehenkel & Louppe (2019), Unconstrained Monotonic Neural Networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, softplus

from pyrolvm.core.errors import require_at_least
from pyrolvm.nn.mlp import mlp
from pyrolvm.nn.triangular.autoregressive import AutoregressiveLayer
from pyrolvm.nn.triangular.spline_layer import check_bound

LEAST_SLOPE = 1e-3


class IntegralLayer(AutoregressiveLayer):
    """Maps each coordinate by the integral of a positive network of it and of those before it.

    Args:
        dim: Dimension d.
        hidden: Widths of the conditioner's hidden layers.
        integrand: Widths of the hidden layers of the positive network.
        context: Number of functions c_i of the coordinates before that it sees.
        intervals: Number of intervals between nodes, an even number (0 is a node).
        bound: Half the length over which the nodes lie.

    Raises:
        SettingError: If a size is too small, or the bound is not positive.
    """

    nodes: Tensor

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (32, 32),
        integrand: Sequence[int] = (16,),
        context: int = 8,
        intervals: int = 32,
        bound: float = 5.0,
    ) -> None:
        require_at_least(1, context=context)
        require_at_least(2, intervals=intervals)
        check_bound(bound)
        super().__init__(dim, 1 + context, hidden)
        self.integrand = mlp(1 + context, tuple(integrand), 1, "tanh")
        half = (intervals + 1) // 2
        self.register_buffer("nodes", torch.linspace(-bound, bound, 2 * half + 1))

    def increase(
        self, inputs: Float[Tensor, "*batch"], parameters: Float[Tensor, "*batch P"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return the shifted integral and the log of the integrand."""
        slopes, values = self._at_nodes(parameters)
        index = (inputs[..., None] >= self.nodes[1:-1]).sum(-1, keepdim=True)
        value, slope, bend = _piece(index, slopes, values, self._step)
        past = inputs - self.nodes[index.squeeze(-1)]
        # Outside the nodes the integrand stays what it is at the first and the last.
        inside = past.clamp(0 * self._step, self._step)
        tail = past - inside
        end = slope + bend * inside
        value = value + (slope + bend * inside / 2) * inside + end * tail
        return value, end.log()

    def undo(
        self, outputs: Float[Tensor, "*batch"], parameters: Float[Tensor, "*batch P"]
    ) -> Float[Tensor, "*batch"]:
        """Return the upper limits of the integrals: roots of quadratic equations."""
        slopes, values = self._at_nodes(parameters)
        index = (outputs[..., None] >= values[..., 1:-1]).sum(-1, keepdim=True)
        value, slope, bend = _piece(index, slopes, values, self._step)
        rise = outputs - value
        height = (slope + bend * self._step / 2) * self._step
        inside = torch.minimum(rise.clamp_min(0), height)
        root = (slope.square() + 2 * bend * inside).clamp_min(0).sqrt()
        past = 2 * inside / (slope + root)
        end = torch.where(rise > 0, slope + bend * self._step, slope)
        return self.nodes[index.squeeze(-1)] + past + (rise - inside) / end

    @property
    def _step(self) -> Tensor:
        """Distance between nodes."""
        return self.nodes[1] - self.nodes[0]

    def _at_nodes(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Integrand and integral at the nodes, ``(..., nodes)`` each."""
        shift, context = parameters[..., :1], parameters[..., None, 1:]
        count = len(self.nodes)
        context = context.expand(*context.shape[:-2], count, context.shape[-1])
        nodes = self.nodes.expand(context.shape[:-1])[..., None]
        raw = self.integrand(torch.cat([nodes, context], -1)).squeeze(-1)
        slopes = LEAST_SLOPE + softplus(raw + math.log(math.expm1(1 - LEAST_SLOPE)))
        pieces = (slopes[..., 1:] + slopes[..., :-1]) * self._step / 2
        integral = pad(pieces.cumsum(-1), (1, 0))
        middle = integral[..., count // 2, None]
        return slopes, shift + integral - middle


def _piece(
    index: Tensor, slopes: Tensor, values: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Integral and integrand at the left node of each element's interval, and g's slope in it."""
    value, slope = (each.gather(-1, index).squeeze(-1) for each in (values, slopes))
    following = slopes.gather(-1, index + 1).squeeze(-1)
    return value, slope, (following - slope) / step
