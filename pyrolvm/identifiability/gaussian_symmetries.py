r"""The maps that carry every one of several Gaussian priors into itself.

.. math:: P_u = N(\mu_u, \operatorname{diag} \sigma_u^2), \qquad A_\# P_u = P_u
          \quad\text{for all } u

In coordinates in which environment 0 is standard normal, an affine A is an orthogonal matrix that
keeps all means :math:`m_u` and commutes with all variances :math:`S_u`. Coordinates whose
variances go together form blocks, and A is any orthogonal matrix of each block that keeps the
means there: the group is :math:`\prod_k O(f_k)`, with f the size of a block less the rank of its
means. f = 1 is a reflection (a sign flip, an exchange), f > 1 a rotation.

Nonlinear maps must keep all likelihood ratios

.. math:: \log \frac{p_u(z)}{p_0(z)} = \langle m_u S_u^{-1}, z \rangle
          - \tfrac12 \langle S_u^{-1} - 1, z^2 \rangle + c_u

They exist where the ratios are constant along whole curves. Where these curves are parallel lines,
a continuous map can only turn them around, which is the reflection above. Where level sets are
points, a map that keeps p_0 too must exchange points of equal density.

References:
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability (the framework; the group is worked out here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pyrolvm.identifiability.codes import Array

EQUAL = 1e-5
"""Difference of standardised means, or of logarithms of variances, that counts as none."""


@dataclass(frozen=True)
class Block:
    """Coordinates whose variances go together over all environments.

    Args:
        coordinates: Which ones, from 0.
        free: Directions that are orthogonal to all means, standardised, shape ``(f, size)``.
    """

    coordinates: tuple[int, ...]
    free: Array


@dataclass(frozen=True)
class GaussianSymmetries:
    """Environments with diagonal Gaussian priors, and what tells their points apart.

    Args:
        loc: Means, shape ``(E, D)``.
        scale: Standard deviations, shape ``(E, D)``.
    """

    loc: Array
    scale: Array

    @cached_property
    def means(self) -> Array:
        """Means in the coordinates of environment 0, ``(E, D)``."""
        return np.asarray((self.loc - self.loc[0]) / self.scale[0])

    @cached_property
    def variances(self) -> Array:
        """Variances in the coordinates of environment 0, ``(E, D)``."""
        return np.asarray((self.scale / self.scale[0]) ** 2)

    @property
    def means_vary(self) -> bool:
        """Whether environments have different means."""
        return bool(np.abs(self.means).max() > EQUAL)

    @property
    def scales_vary(self) -> bool:
        """Whether environments have different scales."""
        return bool(np.abs(np.log(self.variances)).max() > EQUAL)

    @cached_property
    def rank(self) -> int:
        """Rank of the differences λ(u) − λ(0) of natural parameters."""
        linear, quadratic = self.means / self.variances, (1 / self.variances - 1) / 2
        return _rank(np.hstack([linear, quadratic]))

    @property
    def needed_rank(self) -> int:
        """Rank at which sufficient statistics are known: z and z² where both vary, 2D."""
        dim = self.loc.shape[1]
        return dim * max(int(self.means_vary) + int(self.scales_vary), 1)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Coordinates in blocks whose variances go together, with the directions left free."""
        rest, found = list(range(self.loc.shape[1])), []
        logs = np.log(self.variances)
        while rest:
            alike = np.abs(logs[:, rest] - logs[:, rest[:1]]).max(0) <= EQUAL
            block = tuple(c for c, is_alike in zip(rest, alike, strict=True) if is_alike)
            found.append(Block(block, _null_space(self.means[:, block])))
            rest = [c for c in rest if c not in block]
        return tuple(found)

    @cached_property
    def undirected(self) -> Array:
        """Directions at a point along which no likelihood ratio changes, ``(free, D)``."""
        point = np.random.default_rng(0).standard_normal(self.loc.shape[1])
        gradients = self.means / self.variances + point * (1 - 1 / self.variances)
        return _null_space(gradients)

    @property
    def is_nonlinear(self) -> bool:
        """Whether nonlinear continuous maps survive.

        Level sets of dimension 1 and more carry them, but for parallel lines: there, one direction
        is left in coordinates whose prior is the same in all environments.
        """
        along = len(self.undirected)
        same = [b for b in self.blocks if self._is_same(b.coordinates)]
        lines = sum(len(block.free) for block in same)
        return along > 0 and not (along == 1 and lines == 1)

    def _is_same(self, coordinates: Sequence[int]) -> bool:
        """Whether the scales of coordinates are the same in all environments."""
        return bool(np.abs(np.log(self.variances[:, coordinates])).max() <= EQUAL)

    def is_isometric(self, block: Block) -> bool:
        """Whether orthogonal maps of a standardised block keep distances of codes."""
        scales = self.scale[0, list(block.coordinates)]
        return bool(np.ptp(scales) <= EQUAL * scales.max())


def _rank(rows: Array) -> int:
    values = np.linalg.svd(_of_unit_length(rows), compute_uv=False)
    return int((values > EQUAL).sum())


def _null_space(rows: Array) -> Array:
    """Orthonormal directions that are orthogonal to all rows, ``(f, size)``."""
    _, values, directions = np.linalg.svd(_of_unit_length(rows))
    return np.asarray(directions[int((values > EQUAL).sum()) :])


def _of_unit_length(rows: Array) -> Array:
    """Scale rows to length 1, so that no environment drowns another; next to nothing becomes 0."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > EQUAL, rows / np.maximum(length, EQUAL), 0.0)
