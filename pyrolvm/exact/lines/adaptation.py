r"""Directions that suit a posterior: its covariance, from local precisions and from states.

Around a state with Jacobian J the posterior is about normal with precision I + J J'. A mean of
these local covariances is there from the first sweep on; the covariance of states that chains went
through joins in as they come.
"""

from __future__ import annotations

import numpy as np

from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.propagation import output_maps

# The local covariance counts as much as so many states a latent coordinate.
LOCAL_STATES = 4
ROUNDING = 1e-12
CHUNK = 2**22


def local_covariance(folded: FoldedGenerator, states: Array) -> Array:
    """Mean over chains of the covariance of the affine piece that a state lies in.

    Args:
        folded: The generator.
        states: Whitened points, ``(N, C, S)``.

    Returns:
        Covariances, ``(N, S, S)``.
    """
    size, _, dim = states.shape
    widest = max(len(folded.last), *(len(bias) for bias in (*folded.biases, folded.last)))
    rows = max(1, CHUNK // (states.shape[1] * (dim + 1) * widest))
    found = np.empty((size, dim, dim))
    for begin in range(0, size, rows):
        part = states[begin : begin + rows]
        _, jacobian, _ = output_maps(folded, np.ascontiguousarray(part.reshape(-1, dim)))
        precision = np.eye(dim) + jacobian @ jacobian.transpose(0, 2, 1)
        each = np.linalg.inv(precision).reshape(*part.shape, dim)
        found[begin : begin + rows] = each.mean(1)
    return found


def factor_of(local: Array, visited: Array | None = None) -> Array:
    """Lower-triangular factor of the directions' covariance.

    Args:
        local: From :func:`local_covariance`, ``(N, S, S)``.
        visited: States that the chains went through, ``(C, M, N, S)``.

    Returns:
        Factors, ``(N, S, S)``.
    """
    dim = local.shape[-1]
    covariance = local
    if visited is not None:
        states = visited.reshape(visited.shape[0] * visited.shape[1], *visited.shape[2:])
        rest = states - states.mean(0)
        scatter = np.einsum("mns,mnt->nst", rest, rest, optimize=True)
        weight = LOCAL_STATES * dim
        covariance = (scatter + weight * local) / (len(states) + weight)
    typical = np.trace(covariance, axis1=1, axis2=2) / dim
    covariance = covariance + ROUNDING * typical[:, None, None] * np.eye(dim)
    return np.linalg.cholesky(0.5 * (covariance + covariance.transpose(0, 2, 1)))
