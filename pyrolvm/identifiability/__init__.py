"""What is identified: the symmetries that a model leaves open, and how far runs really agree.

``check`` reads off which maps of the latent space two equally good models may differ by. The
ladder (``raw_r2``, ``mcc``, ``affine_r2``, ...) measures by which they do. ``compare_runs``, which
runs the models, is in :mod:`pyrolvm.inference.runs_agreement` and is found here too.
"""

from __future__ import annotations

import importlib
from typing import Any

from pyrolvm.identifiability.check import check
from pyrolvm.identifiability.groups import Level, SymmetryGroup
from pyrolvm.identifiability.intervals import Interval, with_interval
from pyrolvm.identifiability.ladder import (
    affine_r2,
    mcc,
    orthogonal_r2,
    raw_r2,
    sign_r2,
    signed_correlation,
    spearman_mcc,
)
from pyrolvm.identifiability.nonlinear import nonlinear_r2
from pyrolvm.identifiability.pullback import pullback_distances
from pyrolvm.identifiability.report import IdentifiabilityReport
from pyrolvm.identifiability.rungs import LADDER, lowest_rung
from pyrolvm.identifiability.sign_convention import fix_sign_by
from pyrolvm.identifiability.tasks import TASKS, TaskVerdict

__all__ = [
    "LADDER",
    "TASKS",
    "IdentifiabilityReport",
    "Interval",
    "Level",
    "RunsAgreement",
    "SymmetryGroup",
    "TaskVerdict",
    "affine_r2",
    "check",
    "compare_runs",
    "fix_sign_by",
    "lowest_rung",
    "mcc",
    "nonlinear_r2",
    "orthogonal_r2",
    "pullback_distances",
    "raw_r2",
    "sign_r2",
    "signed_correlation",
    "spearman_mcc",
    "with_interval",
]

_HIGHER_UP = ("RunsAgreement", "compare_runs")


def __getattr__(name: str) -> Any:
    """Find what runs programs; it stands in a higher layer, which is loaded on first use."""
    if name in _HIGHER_UP:
        return getattr(importlib.import_module("pyrolvm.inference.runs_agreement"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
