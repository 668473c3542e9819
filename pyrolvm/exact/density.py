r"""Log density of the exact posterior at given points.

.. math:: \log p(z \mid x) = \log \kappa_\omega(x) + \log N(z; \mu_\omega(x), \Sigma_\omega) - \log p(x)

with omega the region of z, found by its activation code. Needs no search among regions, and holds
outside the box as well.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

from math import log, pi

import numpy as np

from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.geometry import orthogonalise
from pyrolvm.exact.propagation import output_maps

CHUNK_NUMBERS = 2**21


def log_density(folded: FoldedGenerator, reduced: Array, log_evidence: Array, z: Array) -> Array:
    """Evaluate the posterior's log density.

    Args:
        folded: The generator.
        reduced: Reduced data, ``(N, D')``.
        log_evidence: Log evidence of the reduced data, ``(N,)``.
        z: Latent points, ``(P, N, S)``.

    Returns:
        Log densities in nats, ``(P, N)``.
    """
    particles, size, dim = z.shape
    points = folded.to_whitened(z).reshape(-1, dim)
    datum = np.tile(np.arange(size), particles)
    widths = [weight.shape[0] for weight in folded.weights]
    chunk = max(1, CHUNK_NUMBERS // (3 * (dim + 1) * max([folded.last.shape[0], *widths])))
    result = np.empty(len(points))
    for begin in range(0, len(points), chunk):
        part = slice(begin, begin + chunk)
        result[part] = _joint(folded, reduced[datum[part]], points[part])
    return result.reshape(particles, size) - log_evidence - folded.log_det_prior


def _joint(folded: FoldedGenerator, y: Array, u: Array) -> Array:
    """Log kappa plus log normal density at each point, up to what was reduced away, ``(M,)``."""
    value, jacobian = output_maps(folded, u)
    dim = u.shape[1]
    basis, factor = orthogonalise(jacobian)
    rho = np.concatenate([y - value, -u], 1)
    mean = np.einsum("msk,mk->ms", basis, rho)
    rest = rho - np.einsum("msk,ms->mk", basis, mean)
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    log_kappa = -0.5 * np.einsum("mk,mk->m", rest, rest) - log_det
    log_normal = log_det - 0.5 * (mean**2).sum(1) - 0.5 * dim * log(2 * pi)
    return log_kappa + log_normal
