"""Triangular monotone increasing (TMI) maps, exact by construction, all in the order 1, ..., d."""

from pyrolvm.nn.triangular.affine_layer import AffineLayer
from pyrolvm.nn.triangular.bijection import Bijection, Composition
from pyrolvm.nn.triangular.elementwise import Signs, Standardise
from pyrolvm.nn.triangular.integral_layer import IntegralLayer
from pyrolvm.nn.triangular.jacobian import (
    Triangularity,
    is_triangular_monotone,
    jacobian,
    triangularity,
)
from pyrolvm.nn.triangular.rational_quadratic import RationalQuadraticSpline
from pyrolvm.nn.triangular.spline_layer import SplineLayer
from pyrolvm.nn.triangular.stack import KINDS, triangular_layers

__all__ = [
    "KINDS",
    "AffineLayer",
    "Bijection",
    "Composition",
    "IntegralLayer",
    "RationalQuadraticSpline",
    "Signs",
    "SplineLayer",
    "Standardise",
    "Triangularity",
    "is_triangular_monotone",
    "jacobian",
    "triangular_layers",
    "triangularity",
]
