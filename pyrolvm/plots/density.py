r"""Highest-density regions of a density on a grid.

The region of mass m is :math:`\{z : p(z) \ge c_m\}` with :math:`\int_{p \ge c_m} p = m`
(Hyndman 1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WHOLE = 0.95
"""A grid that holds this share of the mass counts as whole: the rest is the grid's own error."""

DEEPEST = 60.0
"""Nats below the peak at which a log density is cut, so that contours can be interpolated."""


@dataclass(frozen=True)
class GridDensity:
    """A density on a grid.

    Args:
        log_density: Nats; relative to the peak, cut far below it.
        peak: The log density at the peak.
        mass: The density times the cell's size, at each point.
    """

    log_density: NDArray[np.float64]
    peak: float
    mass: NDArray[np.float64]

    @property
    def total(self) -> float:
        """Mass inside the grid; 1 up to the grid's error if nothing lies outside."""
        return float(self.mass.sum())

    def levels(self, shares: Sequence[float]) -> list[float | None]:
        """Log density (relative to the peak) around each highest-density region.

        Args:
            shares: Masses of the regions.

        Returns:
            One level a share; None where the grid holds less than that share.
        """
        order = np.sort(self.log_density, axis=None)[::-1]
        mass = self.mass.ravel()[np.argsort(-self.log_density, axis=None, kind="stable")]
        cumulative = np.cumsum(mass) / (self.total if self.total >= WHOLE else 1.0)
        positions = [int(np.searchsorted(cumulative, share)) for share in shares]
        return [float(order[at]) if at < order.size else None for at in positions]


def grid_density(
    log_density: NDArray[np.float64], *axes: NDArray[np.float64]
) -> GridDensity | None:
    """Read a normalised log density on a regular grid.

    Args:
        log_density: Nats, shape ``(n_2, n_1)`` or ``(n_1,)``.
        axes: Coordinates of the points along each axis, as in the shape.

    Returns:
        The density, or None if it is nowhere finite.
    """
    finite = np.where(np.isnan(log_density), -np.inf, log_density)
    peak = float(finite.max(initial=-np.inf))
    if not np.isfinite(peak):
        return None
    cell = float(np.prod([np.abs(axis[-1] - axis[0]) / max(axis.size - 1, 1) for axis in axes]))
    relative = np.maximum(finite - peak, -DEEPEST)
    mass = np.exp(relative) * np.exp(peak) * cell
    return GridDensity(relative, peak, mass)
