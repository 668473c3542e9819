r"""Sliced Wasserstein distance in posterior standard deviations.

.. math:: \mathrm{SW}^2(q, p) = E_\theta \int_0^1
          \bigl(Q_{\theta^\top q}(u) - Q_{\theta^\top p}(u)\bigr)^2 du

over directions θ of the sphere, in coordinates in which the posterior is white. Finite samples lie
some way apart even when they come from one distribution: halves of the reference against each
other say how far. Their mean square is taken off, and what their 95 % quantile leaves is the null
level.

The standard error is that of the transport potentials (del Barrio & Loubes 2019, Central Limit
Theorems for Empirical Transportation Cost), averaged over directions. Bonneel, Rabin, Peyré &
Pfister (2015), Sliced and Radon Wasserstein Barycenters of Measures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from pyrolvm.diagnostics.draw_pair import Sample, whitening

NUM_DIRECTIONS = 64
"""Directions at least; a multiple of the number of coordinates, in orthonormal sets."""
MOST_DIRECTIONS = 256
"""Directions of one orthonormal set at most: of more coordinates it is a random part."""
DRAWS_TO_WHITEN = 50
"""Draws for each coordinate from which on correlations are taken out, and not only widths."""
NUM_SPLITS = 40
"""Random halves of the reference."""
NULL_QUANTILE = 0.95


class Distance(NamedTuple):
    """A sliced Wasserstein distance in posterior standard deviations.

    Args:
        value: The distance, its mean null square taken off; 0 where that leaves nothing.
        standard_error: Its standard error; NaN where the distance is 0.
        null: What halves of the reference reach against each other in one of twenty cases.
    """

    value: float
    standard_error: float
    null: float


def sliced_wasserstein(guide: Sample, posterior: Sample, *, rng: np.random.Generator) -> Distance:
    """Distance between draws of guide and posterior.

    Args:
        guide: Independent draws, shape ``(n, S)``.
        posterior: As many independent draws, shape ``(n, S)``.
        rng: Where directions and splits come from.

    Returns:
        The distance.
    """
    directions = _white(posterior) @ _directions(posterior.shape[1], rng)
    here, there = guide @ directions, posterior @ directions
    half = len(there) // 2
    null, apart = np.empty(NUM_SPLITS), np.empty(NUM_SPLITS)
    for split in range(NUM_SPLITS):
        mine, rows = (rng.permutation(len(here)) for _ in range(2))
        left = np.sort(there[rows[:half]], axis=0)
        null[split] = _square(left, np.sort(there[rows[half : 2 * half]], axis=0))
        apart[split] = _square(left, np.sort(here[mine[:half]], axis=0))
    value = float(np.sqrt(max(apart.mean() - null.mean(), 0.0)))
    error = _error(here, there) / (2 * value) if value > 0 else np.nan
    level = max(float(np.quantile(null, NULL_QUANTILE)) - float(null.mean()), 0.0) ** 0.5
    return Distance(value, error, level)


def _white(posterior: Sample) -> Float[NDArray, "coordinate coordinate"]:
    """Matrix that makes the posterior white; of few draws one that makes its coordinates so.

    A sample that is whitened by itself comes out narrower than others from its distribution.
    """
    size, dim = posterior.shape
    if size < DRAWS_TO_WHITEN * dim:
        return np.diag(1 / posterior.std(0))
    white: NDArray = whitening(torch.from_numpy(posterior)).numpy()
    return white


def _directions(dim: int, rng: np.random.Generator) -> Float[NDArray, "coordinate direction"]:
    """Orthonormal sets: linear and quadratic functions of a direction average as they should."""
    if dim == 1:
        return np.ones((1, 1))
    columns = min(dim, MOST_DIRECTIONS)
    sets = rng.standard_normal((-(-NUM_DIRECTIONS // columns), dim, columns))
    return np.concatenate(list(np.linalg.qr(sets).Q), axis=1)


def _square(one: Sample, other: Sample) -> float:
    """Mean over directions of the squared distance of two sorted samples."""
    return float(((one - other) ** 2).mean())


def _error(here: NDArray, there: NDArray) -> float:
    """Standard error of the mean over directions of the squared distance."""
    variance = 0.0
    for one, other in ((here, there), (there, here)):
        order = np.argsort(one, axis=0)
        ranked = np.take_along_axis(one, order, 0)
        slope = 2 * (ranked - np.sort(other, axis=0))
        steps = np.diff(ranked, axis=0) * (slope[1:] + slope[:-1]) / 2
        potential = np.concatenate([np.zeros((1, one.shape[1])), np.cumsum(steps, axis=0)])
        values = np.empty_like(potential)
        np.put_along_axis(values, order, potential, 0)
        variance += float(values.mean(1).var()) / len(one)
    return float(np.sqrt(variance))
