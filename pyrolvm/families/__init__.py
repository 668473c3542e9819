"""Families of guide distributions q(z; λ).

Amortized and per-datum guides choose λ; a family owns no weights.
"""

from pyrolvm.families.bernoulli import Bernoulli
from pyrolvm.families.diagonal import Diagonal
from pyrolvm.families.family import Family
from pyrolvm.families.flow import Flow
from pyrolvm.families.full import Full
from pyrolvm.families.gaussian_mixture import GaussianMixture
from pyrolvm.families.mixture import Mixture
from pyrolvm.families.planar_flow import PlanarFlow
from pyrolvm.families.registry import FAMILIES, make_family
from pyrolvm.families.sign import Sign, SignedHalfNormals

__all__ = [
    "FAMILIES",
    "Bernoulli",
    "Diagonal",
    "Family",
    "Flow",
    "Full",
    "GaussianMixture",
    "Mixture",
    "PlanarFlow",
    "Sign",
    "SignedHalfNormals",
    "make_family",
]
