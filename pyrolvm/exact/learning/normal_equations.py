r"""Solve :math:`\sum_\omega U_\omega X H_\omega + \lambda X = B` for a matrix X.

All U and H are positive semidefinite. A small system is solved as
:math:`(\sum_\omega H_\omega \otimes U_\omega + \lambda I) \operatorname{vec} X =
\operatorname{vec} B`, a large one by conjugate gradients, which only apply the left side.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.sparse.linalg import LinearOperator, cg

from pyrolvm.exact.folding import Array

# Entries of X up to which the dense system is solved: it takes its cube in time.
DENSE_SIZE = 600


def mean_curvature(outer: Array, inner: Array) -> float:
    """Mean diagonal entry of the left side without lambda.

    Args:
        outer: U, ``(R, O, O)``.
        inner: H, ``(R, I, I)``.
    """
    traces = np.trace(outer, axis1=1, axis2=2) @ np.trace(inner, axis1=1, axis2=2)
    return float(traces) / (outer.shape[1] * inner.shape[1])


def solve_summed(outer: Array, inner: Array, right: Array, penalty: float) -> Array:
    """Solve the normal equations of one layer, densely or by conjugate gradients.

    Args:
        outer: U, ``(R, O, O)``.
        inner: H, ``(R, I, I)``.
        right: B, ``(O, I)``.
        penalty: lambda. X is 0 if it is not positive: nothing depends on X then.

    Returns:
        X, ``(O, I)``.
    """
    if not penalty > 0:
        return np.zeros_like(right)
    solver = solve_dense if right.size <= DENSE_SIZE else solve_iteratively
    return solver(outer, inner, right, penalty)


def solve_dense(outer: Array, inner: Array, right: Array, penalty: float) -> Array:
    """Solve by a Cholesky factorisation of the Kronecker sum; see :func:`solve_summed`.

    Where rounding has left the sum indefinite, no curvature counts as less than the penalty.
    """
    rows, columns = right.shape
    table = outer.reshape(len(outer), -1).T @ inner.reshape(len(inner), -1)
    blocks = table.reshape(rows, rows, columns, columns)
    matrix = np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))
    square = matrix.reshape(right.size, right.size)
    square[np.diag_indices(right.size)] += penalty
    try:
        solution: Array = cho_solve(cho_factor(square), right.ravel())
    except np.linalg.LinAlgError:
        values, vectors = eigh(square)
        solution = vectors @ ((vectors.T @ right.ravel()) / np.maximum(values, penalty))
    return solution.reshape(rows, columns)


def solve_iteratively(
    outer: Array, inner: Array, right: Array, penalty: float, tolerance: float = 1e-8
) -> Array:
    """Solve by conjugate gradients, scaled by the diagonal; see :func:`solve_summed`.

    A solution that is not converged is still a direction of ascent.
    """
    shape = right.shape

    def apply(flat: Array) -> Array:
        x = flat.reshape(shape)
        return ((outer @ x @ inner).sum(0) + penalty * x).ravel()

    diagonal = np.einsum("roo,rii->oi", outer, inner) + penalty
    size = right.size
    left = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    scaling = LinearOperator(
        (size, size), matvec=lambda flat: flat / diagonal.ravel(), dtype=np.float64
    )
    solution, _ = cg(left, right.ravel(), rtol=tolerance, maxiter=2 * size, M=scaling)
    found: Array = solution.reshape(shape)
    return found
