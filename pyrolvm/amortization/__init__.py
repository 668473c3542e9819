"""How guides find q(z | x) by shared weights: encoders, gradient refinement, Langevin chains."""

from pyrolvm.amortization.affine_reverse import AffineReverse, LinearisedReverse
from pyrolvm.amortization.ascent import ElboAscent
from pyrolvm.amortization.calibration import Curvature, typical_curvature
from pyrolvm.amortization.descent import MisfitDescent
from pyrolvm.amortization.family_guide import FamilyGuide, encoder_into
from pyrolvm.amortization.langevin_chain import ChainPath, LangevinChain
from pyrolvm.amortization.layered_guide import LayeredGuide
from pyrolvm.amortization.local_elbo import LocalElbo, balanced_noise
from pyrolvm.amortization.log_joint import LogJoint, curvature, slope, value_and_slope
from pyrolvm.amortization.reverse_kernels import AnnealedReverse, GradientReverse, ReverseKernels
from pyrolvm.amortization.reverse_registry import REVERSE_KERNELS, make_reverse
from pyrolvm.amortization.standardising_guide import StandardisingGuide
from pyrolvm.amortization.top_down_guide import RateWeights, TopDownGuide

__all__ = [
    "REVERSE_KERNELS",
    "AffineReverse",
    "AnnealedReverse",
    "ChainPath",
    "Curvature",
    "ElboAscent",
    "FamilyGuide",
    "GradientReverse",
    "LangevinChain",
    "LayeredGuide",
    "LinearisedReverse",
    "LocalElbo",
    "LogJoint",
    "MisfitDescent",
    "RateWeights",
    "ReverseKernels",
    "StandardisingGuide",
    "TopDownGuide",
    "balanced_noise",
    "curvature",
    "encoder_into",
    "make_reverse",
    "slope",
    "typical_curvature",
    "value_and_slope",
]
