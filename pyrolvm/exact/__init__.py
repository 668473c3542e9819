"""Exact posterior and evidence of piecewise-affine generators with one to five latents.

Numerics only, free of Pyro: a generator is an :class:`AffineStack`, its regions a
:class:`Partition`, its posterior a :class:`PiecewisePosterior`.
"""

from pyrolvm.exact.data_moments import DataMoments, data_moments
from pyrolvm.exact.errors import (
    BoxError,
    GeneratorError,
    LatentDimensionError,
    NotPiecewiseAffineError,
    ObservationError,
    PartitionMismatchError,
    ProbabilityError,
    RegionLimitError,
    SecondDerivativeError,
)
from pyrolvm.exact.gradient import log_evidence
from pyrolvm.exact.imputation import Imputation, impute, impute_from
from pyrolvm.exact.line_distribution import HighestDensity
from pyrolvm.exact.missing import log_evidence_observed, solve_observed
from pyrolvm.exact.mixture_posterior import MixturePosterior
from pyrolvm.exact.observed_posterior import ObservedPosterior
from pyrolvm.exact.partition import LatentRegions, Partition
from pyrolvm.exact.posterior import PiecewisePosterior, RegionProbabilities
from pyrolvm.exact.solving import solve
from pyrolvm.exact.stack import AffineStack

__all__ = [
    "AffineStack",
    "BoxError",
    "DataMoments",
    "GeneratorError",
    "HighestDensity",
    "Imputation",
    "LatentDimensionError",
    "LatentRegions",
    "MixturePosterior",
    "NotPiecewiseAffineError",
    "ObservationError",
    "ObservedPosterior",
    "Partition",
    "PartitionMismatchError",
    "PiecewisePosterior",
    "ProbabilityError",
    "RegionLimitError",
    "RegionProbabilities",
    "SecondDerivativeError",
    "data_moments",
    "impute",
    "impute_from",
    "log_evidence",
    "log_evidence_observed",
    "solve",
    "solve_observed",
]
