"""Guides: one file a guide, each a Pyro program for any model with the right capabilities."""

from pyrolvm.guides.amortized import Amortized
from pyrolvm.guides.exact import Exact
from pyrolvm.guides.exact_cpa import CPAPosterior, ExactCPA
from pyrolvm.guides.per_datum import PerDatum

__all__ = ["Amortized", "CPAPosterior", "Exact", "ExactCPA", "PerDatum"]
