"""The latent space of one datum: the exact posterior and every guide on one grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pyrolvm.plots.comparison import ComparisonView
from pyrolvm.plots.density import GridDensity, grid_density

SHARES = (0.5, 0.9)
"""Masses of the highest-density regions that are drawn as lines."""

BANDS = (0.99, 0.9, 0.5)
"""Masses of the shaded regions of the exact posterior."""


@dataclass(frozen=True)
class Scene:
    """What is drawn of one datum.

    Args:
        grid: Coordinates along each latent axis, the last axis first.
        exact: The exact posterior, if it is known.
        guides: Density of each guide.
        limits: The part of each axis that is shown, in the order of ``grid``.
    """

    grid: list[NDArray[np.float64]]
    exact: GridDensity | None
    guides: dict[str, GridDensity | None]
    limits: list[tuple[float, float]]

    @property
    def is_flat(self) -> bool:
        """Whether there is one latent dimension only."""
        return len(self.grid) == 1

    @property
    def highest(self) -> float:
        """A little above the highest density of all."""
        peaks = [one.peak for one in (self.exact, *self.guides.values()) if one is not None]
        return 1.08 * math.exp(max(peaks, default=0.0))


def scene_of(
    comparison: ComparisonView, picture: xr.Dataset, names: list[str], number: int
) -> Scene:
    """Read what is drawn of one datum.

    Args:
        comparison: The comparison.
        picture: Its group ``/picture``.
        names: The guides that are drawn.
        number: Which of the pictured data.

    Returns:
        The scene.
    """
    grid = [_values(picture[axis], number) for axis in ("z_2", "z_1") if axis in picture]
    exact = None
    if "log_density" in picture:
        exact = grid_density(_values(picture["log_density"], number), *grid)
    guides = {}
    for name in names:
        own = comparison.group(name, "picture")
        assert own is not None
        guides[name] = grid_density(_values(own["log_density"], number), *grid)
    return Scene(grid, exact, guides, _limits(grid, exact, guides))


def _limits(
    grid: list[NDArray[np.float64]],
    exact: GridDensity | None,
    guides: dict[str, GridDensity | None],
) -> list[tuple[float, float]]:
    """The part of the grid that holds all that is drawn, and a margin."""
    inside = np.zeros(tuple(axis.size for axis in grid), dtype=bool)
    pairs = [(exact, BANDS[0]), *((guide, SHARES[-1]) for guide in guides.values())]
    for density, share in pairs:
        if density is not None:
            level = density.levels([share])[0]
            inside |= density.log_density >= (-5.0 if level is None else level)
    limits = []
    for number, axis in enumerate(grid):
        others = tuple(other for other in range(len(grid)) if other != number)
        shown = axis[inside.any(axis=others)] if inside.any() else axis
        margin = 0.12 * float(shown.max() - shown.min()) + 2 * abs(float(axis[1] - axis[0]))
        limits.append(
            (
                max(float(axis.min()), float(shown.min()) - margin),
                min(float(axis.max()), float(shown.max()) + margin),
            )
        )
    return limits


def _values(variable: xr.DataArray, number: int) -> NDArray[np.float64]:
    chosen = variable.isel(picture=number) if "picture" in variable.dims else variable
    return np.asarray(chosen.values, dtype=np.float64)
