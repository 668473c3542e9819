"""The contract between models, guides and everything that measures them."""

from pyrolvm.core.capabilities import (
    AffineGenerator,
    AssignableStack,
    BinaryLayers,
    BinaryRecognition,
    ConditionalJoint,
    ConditionalPrior,
    ConvexGradient,
    ExplicitJoint,
    HasCode,
    HasEvidence,
    HasOptimalLayers,
    HasPosterior,
    Layered,
    PiecewiseAffine,
    TriangularMonotone,
    VectorLatent,
)
from pyrolvm.core.data import Data
from pyrolvm.core.errors import (
    CheckpointError,
    DataError,
    EvidenceError,
    FactorisationError,
    IncompatiblePairError,
    NoDensityError,
    NonFiniteLossError,
    PyroLVMError,
    RunFolderError,
    SiteError,
    UnknownNameError,
)
from pyrolvm.core.estimate import Estimate, mean_over_data
from pyrolvm.core.evaluation import evaluating, own_parameters
from pyrolvm.core.guide import Guide
from pyrolvm.core.log_densities import LogDensities, log_densities
from pyrolvm.core.model import Model
from pyrolvm.core.pairing import require_capabilities, serves
from pyrolvm.core.predictive import predictive, prior_predictive

__all__ = [
    "AffineGenerator",
    "AssignableStack",
    "BinaryLayers",
    "BinaryRecognition",
    "CheckpointError",
    "ConditionalJoint",
    "ConditionalPrior",
    "ConvexGradient",
    "Data",
    "DataError",
    "Estimate",
    "EvidenceError",
    "ExplicitJoint",
    "FactorisationError",
    "Guide",
    "HasCode",
    "HasEvidence",
    "HasOptimalLayers",
    "HasPosterior",
    "IncompatiblePairError",
    "Layered",
    "LogDensities",
    "Model",
    "NoDensityError",
    "NonFiniteLossError",
    "PiecewiseAffine",
    "PyroLVMError",
    "RunFolderError",
    "SiteError",
    "TriangularMonotone",
    "UnknownNameError",
    "VectorLatent",
    "evaluating",
    "log_densities",
    "mean_over_data",
    "own_parameters",
    "predictive",
    "prior_predictive",
    "require_capabilities",
    "serves",
]
