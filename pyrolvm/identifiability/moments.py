r"""Means and covariances of two sets of codes, of the data at hand and of bootstrap samples.

.. math:: m_b = \frac1N \sum_n w_{bn} y_n, \qquad
          C_b = \frac1N \sum_n w_{bn} (y_n - m_b)(y_n - m_b)^\top, \qquad y_n = (z_n, \hat z_n)

A bootstrap sample is a row of counts w. All rungs of the ladder but the last are functions of
these moments, so that no sample has to be drawn out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pyrolvm.core.errors import DataError
from pyrolvm.identifiability.codes import Array

SMALLEST = 1e-24
"""Variance, as a share of that of all data, below which a sample is constant."""


@dataclass(frozen=True)
class Moments:
    """Moments of B weighted samples.

    Args:
        mean: Of z and of z_hat, side by side, shape ``(B, 2D)``.
        covariance: Shape ``(B, 2D, 2D)``.
    """

    mean: Array
    covariance: Array

    @classmethod
    def of(cls, z: Array, z_hat: Array, counts: Array, *, ranks: bool = False) -> Moments:
        """Compute the moments of samples.

        Args:
            z: Codes, shape ``(N, D)``.
            z_hat: Other codes, same shape.
            counts: How often each row is in each sample, shape ``(B, N)``.
            ranks: Whether values are replaced by their ranks in the sample.

        Raises:
            DataError: If a coordinate is constant in a sample.
        """
        both = np.hstack([z, z_hat])
        values = _ranks(both, counts) if ranks else (both for _ in counts)
        found = [_weighted(each, row) for each, row in zip(values, counts, strict=True)]
        moments = cls(np.array([mean for mean, _ in found]), np.array([c for _, c in found]))
        if (moments.variances <= SMALLEST * both.var(0)).any():
            raise DataError(
                f"A bootstrap sample of the {len(z)} rows has a constant coordinate: too few rows "
                "differ. Encode more data."
            )
        return moments

    @property
    def dim(self) -> int:
        """Number of coordinates D of one set of codes."""
        return self.mean.shape[-1] // 2

    @property
    def variances(self) -> Array:
        """Variances of all coordinates, ``(B, 2D)``."""
        return np.diagonal(self.covariance, axis1=-2, axis2=-1)

    @property
    def reference(self) -> Array:
        """Covariance of z, ``(B, D, D)``."""
        return self.covariance[:, : self.dim, : self.dim]

    @property
    def codes(self) -> Array:
        """Covariance of z_hat, ``(B, D, D)``."""
        return self.covariance[:, self.dim :, self.dim :]

    @property
    def cross(self) -> Array:
        """Covariance of z (rows) and z_hat (columns), ``(B, D, D)``."""
        return self.covariance[:, : self.dim, self.dim :]

    @property
    def shift(self) -> Array:
        """Mean of z less mean of z_hat, ``(B, D)``."""
        return np.asarray(self.mean[:, : self.dim] - self.mean[:, self.dim :])

    @property
    def correlations(self) -> Array:
        """Pearson correlations of z (rows) and z_hat (columns), ``(B, D, D)``."""
        scale = np.sqrt(self.variances)
        return np.asarray(self.cross / scale[:, : self.dim, None] / scale[:, None, self.dim :])


def _weighted(values: Array, counts: Array) -> tuple[Array, Array]:
    total = counts.sum()
    mean = counts @ values / total
    rest = values - mean
    return mean, (rest * counts[:, None]).T @ rest / total


def _ranks(values: Array, counts: Array) -> Iterator[Array]:
    """Ranks of each row among the rows of a sample; equal values share the mean of theirs."""
    columns = [np.unique(column, return_inverse=True) for column in values.T]
    for row in counts:
        ranks = np.empty_like(values)
        for place, (distinct, group) in enumerate(columns):
            sizes = np.bincount(group, weights=row, minlength=len(distinct))
            ranks[:, place] = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
        yield ranks
