"""Moments of a guide against reference draws: location, width, correlation, shape, modes."""

from pyrolvm.diagnostics.moments.correlation import CorrelationError
from pyrolvm.diagnostics.moments.directions import Direction, Directions
from pyrolvm.diagnostics.moments.estimates import Estimates
from pyrolvm.diagnostics.moments.result import Moments, compare_moments
from pyrolvm.diagnostics.moments.thresholds import Threshold

__all__ = [
    "CorrelationError",
    "Direction",
    "Directions",
    "Estimates",
    "Moments",
    "Threshold",
    "compare_moments",
]
