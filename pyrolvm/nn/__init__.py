"""Small networks shared by models and guides."""

from pyrolvm.nn.mlp import ACTIVATIONS, PIECEWISE_AFFINE, Abs, mlp

__all__ = ["ACTIVATIONS", "PIECEWISE_AFFINE", "Abs", "mlp"]
