r"""Monotone rational-quadratic splines with linear tails, and their inverse in closed form.

On the bin between the knots (x_k, y_k) and (x_{k+1}, y_{k+1}), of width w and height h, with
slopes d_k and d_{k+1} at its ends, s = h/w and t = (x - x_k)/w,

.. math:: y = y_k + h \frac{s t^2 + d_k t (1 - t)}{s + (d_{k+1} + d_k - 2 s)\, t (1 - t)}

Outside the box the spline is the identity, and its slope at both ends of the box is 1.

References:
    Gregory & Delbourgo (1982), Piecewise Rational Quadratic Interpolation to Monotonic Data.
    Durkan, Bekasov, Murray & Papamakarios (2019), Neural Spline Flows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, softplus

LEAST_FRACTION = 1e-3
LEAST_SLOPE = 1e-3


@dataclass(frozen=True)
class RationalQuadraticSpline:
    """Splines of K bins, one for each element of the batch.

    Args:
        x: Places of the knots, increasing from −bound to bound, ``(..., K + 1)``.
        y: Values there, increasing from −bound to bound, ``(..., K + 1)``.
        slopes: Positive slopes there, 1 at both ends, ``(..., K + 1)``.
        bound: Half the width of the box.
    """

    x: Tensor
    y: Tensor
    slopes: Tensor
    bound: float

    @classmethod
    def from_free(cls, free: Float[Tensor, "*batch P"], bound: float) -> RationalQuadraticSpline:
        """Make splines of any real parameters, 3 K − 1 of them; zeros give the identity."""
        bins = (free.shape[-1] + 1) // 3
        widths, heights, slopes = free.split([bins, bins, bins - 1], -1)
        offset = math.log(math.expm1(1 - LEAST_SLOPE))
        inner = LEAST_SLOPE + softplus(slopes + offset)
        return cls(
            _knots(widths, bound), _knots(heights, bound), pad(inner, (1, 1), value=1.0), bound
        )

    def __call__(self, u: Float[Tensor, "*batch"]) -> tuple[Tensor, Tensor]:
        """Return the values at u and the logs of the slopes, ``(...)`` each."""
        inside = u.abs() < self.bound
        x, y, w, h, d0, d1 = self._bin(torch.where(inside, u, 0.0), self.x)
        t, s = (torch.where(inside, u, 0.0) - x) / w, h / w
        both = t * (1 - t)
        below = s + (d1 + d0 - 2 * s) * both
        value = y + h * (s * t.square() + d0 * both) / below
        above = d1 * t.square() + 2 * s * both + d0 * (1 - t).square()
        log_slope = 2 * s.log() + above.log() - 2 * below.log()
        return torch.where(inside, value, u), torch.where(inside, log_slope, 0.0)

    def inverse(self, v: Float[Tensor, "*batch"]) -> Tensor:
        """Return the u whose value is v: the root of a quadratic equation in [0, 1]."""
        inside = v.abs() < self.bound
        within = torch.where(inside, v, 0.0)
        x, y, w, h, d0, d1 = self._bin(within, self.y)
        s, rise = h / w, within - y
        bend = rise * (d1 + d0 - 2 * s)
        a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * rise
        root = (b.square() - 4 * a * c).clamp_min(0).sqrt()
        return torch.where(inside, x + w * 2 * c / (-b - root), v)

    def _bin(self, at: Tensor, knots: Tensor) -> tuple[Tensor, ...]:
        """Left end (x, y), width, height and both slopes of the bin that holds each element."""
        index = (at[..., None] >= knots[..., 1:-1]).sum(-1, keepdim=True)

        def left_and_right(values: Tensor) -> tuple[Tensor, Tensor]:
            left, right = values.gather(-1, index), values.gather(-1, index + 1)
            return left.squeeze(-1), right.squeeze(-1)

        (x, x1), (y, y1) = left_and_right(self.x), left_and_right(self.y)
        return x, y, x1 - x, y1 - y, *left_and_right(self.slopes)


def _knots(free: Tensor, bound: float) -> Tensor:
    """Increasing places from −bound to bound, no bin narrower than a share of the box."""
    bins = free.shape[-1]
    shares = LEAST_FRACTION + (1 - LEAST_FRACTION * bins) * free.softmax(-1)
    inner = 2 * bound * shares.cumsum(-1)[..., :-1] - bound
    return pad(pad(inner, (1, 0), value=-bound), (0, 1), value=bound)
