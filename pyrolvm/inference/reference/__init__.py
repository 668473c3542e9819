"""Draws of the posterior itself, that guides are held against."""

from pyrolvm.inference.reference.reference_draws import reference_draws
from pyrolvm.inference.reference.result import Reference

__all__ = ["Reference", "reference_draws"]
