"""The model p* that a generative model and a guide make together, at their geometric mean."""

from pyrolvm.inference.pstar.pstar import PStar

__all__ = ["PStar"]
