"""Generative models: one file a model, each a plain Pyro program."""

from pyrolvm.models.anchored_ivae import AnchoredIVAE
from pyrolvm.models.brenier_map import BrenierMap
from pyrolvm.models.conv_generator import ConvGenerator
from pyrolvm.models.cpa_generator import CPAGenerator
from pyrolvm.models.folding import Folding
from pyrolvm.models.generic_flow import GenericFlow
from pyrolvm.models.hierarchical_linear_gaussian import HierarchicalLinearGaussian
from pyrolvm.models.hierarchical_vae import HierarchicalVAE
from pyrolvm.models.injective_slope import InjectiveSlope
from pyrolvm.models.ivae import IVAE
from pyrolvm.models.leaky_generator import LeakyGenerator
from pyrolvm.models.linear_gaussian import LinearGaussian
from pyrolvm.models.manifold_generator import ManifoldGenerator
from pyrolvm.models.residual_generator import ResidualGenerator
from pyrolvm.models.sigmoid_belief_network import SigmoidBeliefNetwork
from pyrolvm.models.sign_permutation import SignPermutation
from pyrolvm.models.triangular_map import TriangularMap
from pyrolvm.models.triangular_vae import TriangularVAE
from pyrolvm.models.vae import VAE
from pyrolvm.nn.environment_prior import EnvironmentPrior

__all__ = [
    "IVAE",
    "VAE",
    "AnchoredIVAE",
    "BrenierMap",
    "CPAGenerator",
    "ConvGenerator",
    "EnvironmentPrior",
    "Folding",
    "GenericFlow",
    "HierarchicalLinearGaussian",
    "HierarchicalVAE",
    "InjectiveSlope",
    "LeakyGenerator",
    "LinearGaussian",
    "ManifoldGenerator",
    "ResidualGenerator",
    "SigmoidBeliefNetwork",
    "SignPermutation",
    "TriangularMap",
    "TriangularVAE",
]
