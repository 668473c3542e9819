"""Figures from a comparison tree or the table of a study: pure functions, light and dark."""

from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.contours import posterior_contours
from pyrolvm.plots.encoder_budget import encoder_budget
from pyrolvm.plots.gaps import gap_bars
from pyrolvm.plots.identifiability_ladder import identifiability_ladder
from pyrolvm.plots.khat import khat_per_datum
from pyrolvm.plots.kl_trace import kl_trace
from pyrolvm.plots.linear_rate_plane import linear_rate_plane
from pyrolvm.plots.per_datum_gaps import gap_per_datum
from pyrolvm.plots.prior_samples import prior_samples
from pyrolvm.plots.rate_plane import rate_plane, task_maps
from pyrolvm.plots.rate_plane_tasks import fano_curve, quality_against_rates
from pyrolvm.plots.reconstructions import reconstructions
from pyrolvm.plots.saving import save
from pyrolvm.plots.study_figures import study_figures
from pyrolvm.plots.sweep import SweepAxes, sweep
from pyrolvm.plots.training import training_curves

__all__ = [
    "ComparisonView",
    "SweepAxes",
    "encoder_budget",
    "fano_curve",
    "gap_bars",
    "gap_per_datum",
    "identifiability_ladder",
    "khat_per_datum",
    "kl_trace",
    "linear_rate_plane",
    "posterior_contours",
    "prior_samples",
    "quality_against_rates",
    "rate_plane",
    "read_comparison",
    "reconstructions",
    "save",
    "study_figures",
    "sweep",
    "task_maps",
    "training_curves",
]
