"""Diagnostics of a guide: pure functions from arrays of log densities to numbers, per datum."""

from pyrolvm.diagnostics import arviz_export
from pyrolvm.diagnostics.arviz_export import to_datatree
from pyrolvm.diagnostics.bounds import elbo, elbo_standard_error, iwae, iwae_standard_error
from pyrolvm.diagnostics.gaps import GapSplit, gap_split
from pyrolvm.diagnostics.importance import (
    effective_sample_size,
    khat_standard_error,
    khat_threshold,
    pareto_khat,
    psis,
    tail_length,
)
from pyrolvm.diagnostics.importance_report import Importance
from pyrolvm.diagnostics.overlap import bhattacharyya_squared, sqrt_weight_ess
from pyrolvm.diagnostics.total_variation import total_variation

__all__ = [
    "GapSplit",
    "Importance",
    "arviz_export",
    "bhattacharyya_squared",
    "effective_sample_size",
    "elbo",
    "elbo_standard_error",
    "gap_split",
    "iwae",
    "iwae_standard_error",
    "khat_standard_error",
    "khat_threshold",
    "pareto_khat",
    "psis",
    "sqrt_weight_ess",
    "tail_length",
    "to_datatree",
    "total_variation",
]
