"""Exact independent draws from the posterior, reproducible from one seed."""

from __future__ import annotations

import numpy as np

from pyrolvm.exact.expectation import Expectation
from pyrolvm.exact.folding import Array
from pyrolvm.exact.kernels import sampler
from pyrolvm.exact.threads import run_in_threads


def draw(found: Expectation, num: int, seed: int) -> Array:
    """Draw from the posterior of every datum.

    Args:
        found: The E-step's result.
        num: Draws for each datum.
        seed: Non-negative seed; the same seed gives the same draws on any number of threads.

    Returns:
        Whitened points, ``(num, N, S)``.
    """
    kernel, arrays = sampler(found.geometry, found.partition)
    size = len(found.log_evidence)
    out = np.empty((num, size, found.partition.latent_dim))

    def run(begin: int, end: int) -> None:
        y = found.reduced[begin:end]
        offsets = found.offsets[begin : end + 1]
        kernel(seed, begin, num, y, offsets, found.region, found.probability, *arrays, out)

    run_in_threads(run, size, max(1, 1000 // max(1, num)))
    return out
