"""Exact independent draws from the posterior, reproducible from one seed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pyrolvm.exact.expectation import Expectation
from pyrolvm.exact.folding import Array


def draw(found: Expectation, num: int, seed: int) -> Array:
    """Draw from the posterior of every datum.

    Args:
        found: The E-step's result.
        num: Draws for each datum.
        seed: Non-negative seed; the same seed gives the same draws on any number of threads.

    Returns:
        Whitened points, ``(num, N, S)``.
    """
    from pyrolvm.exact.sampling_kernel import draw_intervals, draw_polygons

    g, partition = found.geometry, found.partition
    size, dim = len(found.log_evidence), partition.latent_dim
    out = np.empty((num, size, dim))
    threads = max(1, torch.get_num_threads())
    chunk = max(1, -(-size // (4 * threads)))

    def run(begin: int) -> None:
        y = found.reduced[begin : begin + chunk]
        offsets = found.offsets[begin : begin + chunk + 1]
        part = out[:, begin : begin + chunk]
        shared = (seed, begin, num, y, offsets, found.region, found.probability)
        if dim == 1:
            draw_intervals(*shared, g.values, g.anchors, g.basis, g.factor, g.corners, part)
        else:
            draw_polygons(
                *shared, g.values, g.anchors, g.basis, g.inverse, g.corners,
                partition.first, partition.count, part,
            )  # fmt: skip

    begins = range(0, size, chunk)
    if threads == 1 or len(begins) <= 1:
        for begin in begins:
            run(begin)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, begins))
    return out
