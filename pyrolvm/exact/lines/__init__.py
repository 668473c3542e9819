"""The exact posterior along a line, for any latent dimension, and chains of draws along lines."""

from pyrolvm.exact.lines.chains import LineChains
from pyrolvm.exact.lines.conditional import LineConditional, line_conditional

__all__ = ["LineChains", "LineConditional", "line_conditional"]
