"""Sweeps: a grid of configurations, one run folder a cell, one tidy table."""

from pyrolvm.studies.backends import BACKENDS, BackendError
from pyrolvm.studies.builtin import builtin_names
from pyrolvm.studies.cell import Cell
from pyrolvm.studies.settings import SETTINGS
from pyrolvm.studies.smallest import smallest_encoders
from pyrolvm.studies.study import Study, StudyResult

__all__ = [
    "BACKENDS",
    "SETTINGS",
    "BackendError",
    "Cell",
    "Study",
    "StudyResult",
    "builtin_names",
    "smallest_encoders",
]
