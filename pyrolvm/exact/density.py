r"""Log density of the exact posterior at given points.

.. math:: \log p(z \mid x) = \log \kappa_\omega(x) + \log N(z; \mu_\omega(x), \Sigma_\omega)
          - \log p(x)

with omega the region of z, found by its activation code. Needs no search among regions, and holds
outside the box as well.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

import numpy as np

from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.propagation import layers_of
from pyrolvm.exact.threads import run_in_threads


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
    from pyrolvm.exact.propagation_kernel import joint_all

    points = np.ascontiguousarray(folded.to_whitened(z))
    layers = layers_of(folded)
    units = int(layers.widths[1:-1].sum())
    result = np.empty(points.shape[:2])

    def run(begin: int, end: int) -> None:
        joint_all(begin, end, points, reduced, *layers, units, result)

    run_in_threads(run, points.shape[1], max(1, 4096 // max(1, points.shape[0])))
    return result - log_evidence - folded.log_det_prior
