"""Small networks shared by models and guides."""

from pyrolvm.nn.mlp import ACTIVATIONS, Abs, mlp

__all__ = ["ACTIVATIONS", "Abs", "mlp"]
