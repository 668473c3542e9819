"""The log joint density and its gradient, cheap enough for chains that ask for them one by one.

Most of what a Pyro program costs at one point is Python. The operations of one evaluation are
recorded and replayed, which takes a third of the time; where a program cannot be recorded, because
its operations depend on values, it runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pyro
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyrolvm.inference.held_rows import Space
from pyrolvm.inference.reference.mass_matrix import POINTS

Slope: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From points ``(N, S)`` to the sum of log joint densities and its gradient ``(N, S)``."""


def recorded_slope(space: Space, points: Tensor) -> Slope:
    """Log joint density of all data together and its gradient, recorded where that is valid.

    Args:
        space: Where it is defined.
        points: Places to record and to compare at, shape ``(P, N, S)``, P ≥ 2.
    """

    def live(at: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad(), pyro.validation_enabled(False):
            at = at.detach().requires_grad_()
            value = space.log_joint(at[None]).sum()
            (slope,) = torch.autograd.grad(value, at)
        return value.detach(), slope

    try:
        recorded = make_fx(live)(points[0])
        if all(_same(recorded(each), live(each)) for each in points[1:]):
            return recorded
    except Exception:  # what cannot be recorded fails in many ways, and runs without
        pass
    return live


def _same(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> bool:
    return all(
        torch.allclose(a, b, rtol=1e-8, atol=1e-8, equal_nan=True)
        for a, b in zip(left, right, strict=True)
    )


class _Negative(torch.autograd.Function):
    """The potential, whose gradient is computed along with it."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, slope: Slope) -> Tensor:
        value, gradient = slope(points)
        ctx.save_for_backward(gradient)
        return -value

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return -grads[0] * gradient, None


def potential_of(slope: Slope) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """The function of Pyro's kernels: minus the log joint density."""

    def potential(params: Mapping[str, Tensor]) -> Tensor:
        with torch.enable_grad():
            value: Tensor = _Negative.apply(params[POINTS], slope)
        return value

    return potential
