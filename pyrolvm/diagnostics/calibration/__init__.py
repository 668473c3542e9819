"""Calibration as arrays: ranks of the truth among draws, and what they say of a guide."""

from pyrolvm.diagnostics.calibration.bands import UniformityTest
from pyrolvm.diagnostics.calibration.histogram import chi_squared_p_value
from pyrolvm.diagnostics.calibration.ranks import (
    density_levels,
    rank_statistics,
    reference_distances,
)
from pyrolvm.diagnostics.calibration.shape import RankShape, gaussian_pair, rank_shape

__all__ = [
    "RankShape",
    "UniformityTest",
    "chi_squared_p_value",
    "density_levels",
    "gaussian_pair",
    "rank_shape",
    "rank_statistics",
    "reference_distances",
]
