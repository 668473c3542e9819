"""Belief networks by objective: likelihood, and how far guide and posterior overlap."""

from pyrolvm.inference.helmholtz.differences import differences
from pyrolvm.inference.helmholtz.layers import LAYERS, default_layers, layers_of_depth
from pyrolvm.inference.helmholtz.objectives import OBJECTIVES, NamedObjective, objectives_named
from pyrolvm.inference.helmholtz.particle_sums import ParticleSums, particle_sums
from pyrolvm.inference.helmholtz.rows import BinaryRows, binary_rows
from pyrolvm.inference.helmholtz.settings import SIZES, Cell, Settings, all_cells
from pyrolvm.inference.helmholtz.study import DEFAULT_DATA, HelmholtzStudy, run_helmholtz

__all__ = [
    "DEFAULT_DATA",
    "LAYERS",
    "OBJECTIVES",
    "SIZES",
    "BinaryRows",
    "Cell",
    "HelmholtzStudy",
    "NamedObjective",
    "ParticleSums",
    "Settings",
    "all_cells",
    "binary_rows",
    "default_layers",
    "differences",
    "layers_of_depth",
    "objectives_named",
    "particle_sums",
    "run_helmholtz",
]
