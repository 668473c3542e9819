r"""Jacobians of maps of single points, and the test of triangular monotonicity.

.. math:: J_{ij} = \partial f_i / \partial u_j = 0 \text{ for } j > i, \qquad s_i J_{ii} > 0

A map that is not triangular monotone can have the likelihood of one that is: if A keeps the prior
(a rotation of N(0, I)), then f and f ∘ A give the same law of x, but f ∘ A fails this test. This
is what removes the indeterminacy.

References:
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import DataError, SettingError


@dataclass(frozen=True)
class Triangularity:
    """How far a map is from being triangular monotone, at the worst of some points.

    Args:
        largest_above: Largest |J_ij| with j > i, as a share of the largest entry of the point's J.
        smallest_diagonal: Smallest s_i J_ii, in units of output per unit of input.
    """

    largest_above: float
    smallest_diagonal: float


def jacobian(
    function: Callable[[Tensor], Tensor], points: Float[Tensor, "point dim"]
) -> Float[Tensor, "point dim dim"]:
    """Jacobians of a map that acts on each row alone.

    Args:
        function: From ``(M, d)`` to ``(M, d)``, row by row.
        points: Shape ``(M, d)``.

    Returns:
        Derivatives of output i in input j, shape ``(M, d, d)``.
    """
    with torch.enable_grad():
        inputs = points.detach().clone().requires_grad_()
        outputs = function(inputs)
        rows = [
            torch.autograd.grad(column.sum(), inputs, retain_graph=True, allow_unused=True)[0]
            for column in outputs.unbind(-1)
        ]
    return torch.stack([torch.zeros_like(inputs) if r is None else r for r in rows], -2).detach()


def triangularity(
    function: Callable[[Tensor], Tensor],
    points: Float[Tensor, "point dim"],
    signature: Sequence[int] | Tensor | None = None,
) -> Triangularity:
    """Measure the Jacobians of a map against the triangular monotone form.

    Args:
        function: From ``(M, d)`` to ``(M, d)``, row by row; for example ``model.encode``.
        points: Shape ``(M, d)``, at least one.
        signature: Signs s_i that the diagonal should have; all +1 where it is None.

    Raises:
        DataError: If there are no points, or the outputs are not finite.
        SettingError: If the signature has another length.
    """
    if points.dim() != 2 or len(points) == 0:
        raise DataError(
            f"The test of triangularity needs points of shape (M, d), but got "
            f"{tuple(points.shape)}. Pass at least one row."
        )
    signs = torch.ones(points.shape[1]) if signature is None else torch.as_tensor(signature)
    if signs.shape != points.shape[1:]:
        raise SettingError(
            f"A signature for points of width {points.shape[1]} needs as many signs, but it has "
            f"shape {tuple(signs.shape)}."
        )
    found = jacobian(function, points)
    if not bool(found.isfinite().all()):
        raise DataError("The Jacobian is not finite at some of the points. Choose others.")
    above = (found.triu(1).abs().amax((-2, -1)) / found.abs().amax((-2, -1))).max()
    diagonal = (found.diagonal(dim1=-2, dim2=-1) * signs.to(found)).min()
    return Triangularity(float(above), float(diagonal))


def is_triangular_monotone(
    function: Callable[[Tensor], Tensor],
    points: Float[Tensor, "point dim"],
    signature: Sequence[int] | Tensor | None = None,
    tolerance: float = 1e-8,
) -> bool:
    """Whether a map is triangular and monotone, with these signs, at all of some points.

    Args:
        function: From ``(M, d)`` to ``(M, d)``, row by row.
        points: Shape ``(M, d)``.
        signature: Signs of the diagonal; all +1 where it is None.
        tolerance: Largest entry above the diagonal, as a share of the largest entry.

    Raises:
        DataError: If there are no points, or the outputs are not finite.
        SettingError: If the signature has another length.

    >>> is_triangular_monotone(lambda u: u.cumsum(-1), torch.randn(5, 3))
    True
    >>> is_triangular_monotone(lambda u: u.flip(-1), torch.randn(5, 3))
    False
    """
    found = triangularity(function, points, signature)
    return found.largest_above <= tolerance and found.smallest_diagonal > 0
