r"""Whether a piecewise-affine generator is one to one, where that can be decided.

A stack of layers is one to one if every matrix has full column rank and every slope is positive.
The curve of a single latent may be one to one without that: it is a chain of straight pieces, and
each pair of them can be tried.

Of any other generator, rank can be missed: where its Jacobian has none to spare at any point that
was tried, it is flat along some direction there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.exact.folding import fold
from pyrolvm.exact.partition import Partition, latent_regions
from pyrolvm.exact.stack import AffineStack
from pyrolvm.identifiability.codes import Array

MEETING = 1e-9
"""Distance of two pieces, as a share of the curve's size, at which they meet."""
FLAT = 1e-6
"""Singular value of a Jacobian, as a share of the largest one, that counts as 0."""


def is_injective(stack: Any) -> bool | None:
    """Decide whether a piecewise-affine generator is one to one.

    Args:
        stack: Its layers, an :class:`pyrolvm.core.capabilities.AffineGenerator`.

    Returns:
        True or False where it is proven, None where it is open.
    """
    # The default tolerance is that of the weights' own precision: no double() before the rank.
    matrices = [weight.detach() for weight in stack.weights]
    full = [int(torch.linalg.matrix_rank(m)) == m.shape[1] for m in matrices]
    if all(full) and all(slope > 0 for slope in stack.slopes):
        return True
    if len(matrices) == 1 or not full[0]:
        return False
    return curve_is_injective(stack) if matrices[0].shape[1] == 1 else None


def curve_is_injective(stack: Any) -> bool:
    """Decide whether the curve of a generator with one latent never meets itself."""
    given = AffineStack.of(stack)
    regions = latent_regions(Partition.of(given), fold(given))
    directions = regions.matrices[..., 0].detach().double().cpu().numpy()
    offsets = regions.offsets.detach().double().cpu().numpy()
    breaks = regions.breakpoints.detach().double().cpu().numpy()
    edges = np.concatenate([[-np.inf], breaks, [np.inf]])
    lengths = np.linalg.norm(directions, axis=1)
    if lengths.min() <= MEETING * lengths.max():
        return False
    pieces = len(directions)
    return not any(
        _meet(directions, offsets, edges, i, j)
        for i in range(pieces)
        for j in range(i + 1, pieces)
    )


def _meet(directions: Array, offsets: Array, edges: Array, i: int, j: int) -> bool:
    """Whether pieces i < j share a point of two different latents."""
    matrix = np.column_stack([directions[i], -directions[j]])
    gap = offsets[j] - offsets[i]
    first, second = (edges[i], edges[i + 1]), (edges[j], edges[j + 1])
    sizes = np.linalg.norm(matrix, axis=0)
    cosine = float(directions[i] @ directions[j] / sizes.prod())
    if 1 - abs(cosine) <= MEETING:
        return _overlap(directions[i], directions[j], gap, first, second)
    z, *_ = np.linalg.lstsq(matrix, gap, rcond=None)
    scale = np.abs(gap).max() + np.abs(z).max() * sizes.max()
    if np.abs(matrix @ z - gap).max() > MEETING * scale:
        return False
    slack = MEETING * max(1.0, float(np.abs(z).max()))
    inside = first[0] <= z[0] <= first[1] and second[0] <= z[1] <= second[1]
    return inside and not abs(z[0] - z[1]) <= slack


def _overlap(
    one: Array, two: Array, gap: Array, first: tuple[float, float], second: tuple[float, float]
) -> bool:
    """Whether two parallel pieces lie on one line and share more than their common end."""
    unit = one / np.linalg.norm(one)
    if np.abs(gap - (gap @ unit) * unit).max() > MEETING * (np.abs(gap).max() + 1e-300):
        return False
    speeds = one @ unit, two @ unit
    start = sorted(speeds[0] * end for end in first)
    other = sorted(speeds[1] * end + gap @ unit for end in second)
    low, high = max(start[0], other[0]), min(start[1], other[1])
    finite = np.array([1.0, *(end for end in (low, high) if np.isfinite(end))])
    return bool(high - low > MEETING * np.abs(finite).max())


def is_flat(generate: Callable[[Tensor], Tensor], points: Float[Tensor, "point D"]) -> bool:
    """Whether the Jacobian of a generator lacks full column rank at all of some points.

    Args:
        generate: The mean of x given z, ``(M, D)`` to ``(M, obs_dim)``.
        points: Generic points of the latent space.
    """

    def one(z: Tensor) -> Tensor:
        return generate(z[None])[0]

    return all(_lacks_rank(torch.autograd.functional.jacobian(one, point)) for point in points)


def _lacks_rank(jacobian: Tensor) -> bool:
    values = torch.linalg.svdvals(jacobian.double())
    return len(values) < jacobian.shape[1] or bool(values[-1] <= FLAT * values[0])
