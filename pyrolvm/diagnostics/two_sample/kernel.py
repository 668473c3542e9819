r"""Maximum mean discrepancy with a mean of Gaussian kernels.

.. math:: \mathrm{MMD}^2(q, p) = E\,k(z_q, z_q') - 2 E\,k(z_q, z_p) + E\,k(z_p, z_p'), \qquad
          k(z, z') = \frac13 \sum_h \exp\left(-\frac{\lVert z - z' \rVert^2}{2 h^2}\right)

with bandwidths h of 1, 1/2 and 1/4 of the median distance between two draws: the widest sees
shifts best, the narrower ones widths, modes and skewness. The estimate leaves out a draw with
itself, so that it is unbiased and may be negative. For n draws of each and labels s = ±1, the
kernel matrix K with an empty diagonal gives every permutation by :math:`s^\top K s`: all of them
are one product of matrices.

Gretton, Borgwardt, Rasch, Schölkopf & Smola (2012), A Kernel Two-Sample Test.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pyrolvm.diagnostics.draw_pair import Sample, whitening
from pyrolvm.diagnostics.two_sample.permutation import Permuted

BANDWIDTHS = (0.25, 0.5, 1.0)
"""Of the kernels, in medians of the distance between two draws."""


def mmd(
    guide: Sample, posterior: Sample, *, num_permutations: int, rng: np.random.Generator
) -> Permuted:
    """Squared discrepancy in whitened coordinates, and what it is under permuted labels.

    Both samples together are whitened and give the median distance, blind to labels: the test is
    exact.

    Args:
        guide: Draws, shape ``(n, S)``.
        posterior: As many draws, shape ``(n, S)``.
        num_permutations: Permutations of the labels.
        rng: Where permutations come from.

    Returns:
        The squared discrepancy and its null distribution.
    """
    both = np.concatenate([guide, posterior])
    both = both @ whitening(torch.from_numpy(both)).numpy()
    squares = _square_distances(both)
    off = squares[np.triu_indices(len(both), 1)]
    median = float(np.sqrt(np.median(off)))
    kernel = _kernel(squares, [each * median for each in BANDWIDTHS])
    signs = np.tile(np.repeat([1.0, -1.0], len(guide))[:, None], 1 + num_permutations)
    signs[:, 1:] = rng.permuted(signs[:, 1:], axis=0)
    values = _squared_mmd(kernel, signs)
    return Permuted(float(values[0]), values[1:])


def mmd_squared(guide: Sample, posterior: Sample, bandwidths: Sequence[float]) -> float:
    """Unbiased estimate of the squared discrepancy for given bandwidths.

    Args:
        guide: Draws, shape ``(n, S)``.
        posterior: As many draws, shape ``(n, S)``.
        bandwidths: In the units of the draws.

    Returns:
        The estimate, which is negative now and then where there is no difference.
    """
    kernel = _kernel(_square_distances(np.concatenate([guide, posterior])), bandwidths)
    return float(_squared_mmd(kernel, np.repeat([1.0, -1.0], len(guide))[:, None])[0])


def _square_distances(both: Sample) -> Float[NDArray, "draw draw"]:
    norms = (both**2).sum(1)
    distances: NDArray = np.maximum(norms[:, None] + norms - 2 * both @ both.T, 0.0)
    return distances


def _kernel(squares: NDArray, bandwidths: Sequence[float]) -> Float[NDArray, "draw draw"]:
    """Mean of Gaussian kernels, with an empty diagonal."""
    kernel = np.zeros_like(squares)
    for bandwidth in bandwidths:
        kernel += np.exp(squares / (-2 * bandwidth**2)) / len(bandwidths)
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _squared_mmd(kernel: NDArray, signs: NDArray) -> Float[NDArray, " labelling"]:
    """One value for each column of labels ±1, of which as many are 1 as are −1."""
    size = len(signs) // 2
    difference = (signs * (kernel @ signs)).sum(0)
    total = kernel.sum()
    within = (total + difference) / (2 * size * (size - 1))
    across = (total - difference) / (2 * size**2)
    values: NDArray = within - across
    return values
