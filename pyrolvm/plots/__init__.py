"""Figures from a comparison tree or the table of a study: pure functions, light and dark."""

from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.contours import posterior_contours
from pyrolvm.plots.encoder_budget import encoder_budget
from pyrolvm.plots.gaps import gap_bars
from pyrolvm.plots.khat import khat_per_datum
from pyrolvm.plots.kl_trace import kl_trace
from pyrolvm.plots.per_datum_gaps import gap_per_datum
from pyrolvm.plots.prior_samples import prior_samples
from pyrolvm.plots.reconstructions import reconstructions
from pyrolvm.plots.saving import save
from pyrolvm.plots.study_figures import study_figures
from pyrolvm.plots.sweep import SweepAxes, sweep
from pyrolvm.plots.training import training_curves

__all__ = [
    "ComparisonView",
    "SweepAxes",
    "encoder_budget",
    "gap_bars",
    "gap_per_datum",
    "khat_per_datum",
    "kl_trace",
    "posterior_contours",
    "prior_samples",
    "read_comparison",
    "reconstructions",
    "save",
    "study_figures",
    "sweep",
    "training_curves",
]
