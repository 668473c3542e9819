"""Guides: one file a guide, each a Pyro program for any model with the right capabilities."""

from pyrolvm.guides.amortized import Amortized
from pyrolvm.guides.bottom_up import BottomUp
from pyrolvm.guides.conditional_encoder import ConditionalEncoder
from pyrolvm.guides.conditional_product import ConditionalProduct
from pyrolvm.guides.exact import Exact
from pyrolvm.guides.exact_code import ExactCode
from pyrolvm.guides.exact_cpa import CPAPosterior, ExactCPA
from pyrolvm.guides.helmholtz_coupled import HelmholtzCoupled
from pyrolvm.guides.iterative import Iterative
from pyrolvm.guides.ladder import Ladder
from pyrolvm.guides.langevin import Langevin
from pyrolvm.guides.layerwise import Layerwise
from pyrolvm.guides.line_gibbs import LineGibbs, LineGibbsDraws
from pyrolvm.guides.per_datum import PerDatum
from pyrolvm.guides.semi_amortized import SemiAmortized
from pyrolvm.guides.sign_guide import SignGuide

__all__ = [
    "Amortized",
    "BottomUp",
    "CPAPosterior",
    "ConditionalEncoder",
    "ConditionalProduct",
    "Exact",
    "ExactCPA",
    "ExactCode",
    "HelmholtzCoupled",
    "Iterative",
    "Ladder",
    "Langevin",
    "Layerwise",
    "LineGibbs",
    "LineGibbsDraws",
    "PerDatum",
    "SemiAmortized",
    "SignGuide",
]
