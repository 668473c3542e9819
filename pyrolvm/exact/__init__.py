"""Exact posterior and evidence of piecewise-affine generators with one or two latents.

Numerics only, free of Pyro: a generator is an :class:`AffineStack`, its regions a
:class:`Partition`, its posterior a :class:`PiecewisePosterior`.
"""

from pyrolvm.exact.errors import (
    BoxError,
    GeneratorError,
    LatentDimensionError,
    NotPiecewiseAffineError,
    ObservationError,
    PartitionMismatchError,
    RegionLimitError,
    SecondDerivativeError,
)
from pyrolvm.exact.gradient import log_evidence
from pyrolvm.exact.mixture_posterior import MixturePosterior
from pyrolvm.exact.partition import LatentRegions, Partition
from pyrolvm.exact.posterior import PiecewisePosterior, RegionProbabilities
from pyrolvm.exact.solving import solve
from pyrolvm.exact.stack import AffineStack

__all__ = [
    "AffineStack",
    "BoxError",
    "GeneratorError",
    "LatentDimensionError",
    "LatentRegions",
    "MixturePosterior",
    "NotPiecewiseAffineError",
    "ObservationError",
    "Partition",
    "PartitionMismatchError",
    "PiecewisePosterior",
    "RegionLimitError",
    "RegionProbabilities",
    "SecondDerivativeError",
    "log_evidence",
    "solve",
]
