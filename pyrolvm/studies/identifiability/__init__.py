"""Do several runs of a model agree about codes? Eleven models on four kinds of data."""

from pyrolvm.studies.identifiability.cells import CELLS, EXPERIMENTS, Cell
from pyrolvm.studies.identifiability.study import IdentifiabilityStudy, run_identifiability
from pyrolvm.studies.identifiability.worlds import StudySettings, World

__all__ = [
    "CELLS",
    "EXPERIMENTS",
    "Cell",
    "IdentifiabilityStudy",
    "StudySettings",
    "World",
    "run_identifiability",
]
