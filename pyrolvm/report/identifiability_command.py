"""What ``pyrolvm study identifiability`` does: train, compare runs, write the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.report.identifiability_page import write_identifiability
from pyrolvm.studies.identifiability import (
    IdentifiabilityStudy,
    StudySettings,
    run_identifiability,
)

NAME = "identifiability"
DESCRIPTION = (
    "Do runs of one model agree about latent codes? VAE, priors learned and fixed for each "
    "environment, triangular maps, a generic flow: what theory says, and what is measured."
)
SIZES: Mapping[str, StudySettings] = {
    "smoke": StudySettings(
        runs=2, best=2, flow_steps=10, elbo_steps=10, warm_steps=5, curve_steps=10, flow_rows=200,
        environment_rows=20, curve_rows=100, surface_rows=200, test_rows=60, num_draws=10,
        num_resamples=20, num_distances=8, slack=1e6,
    ),
    "default": StudySettings(),
    "full": StudySettings(
        runs=10, best=8, flow_steps=2000, elbo_steps=10000, warm_steps=800, curve_steps=2000,
        environment_rows=1000, curve_rows=2000, surface_rows=10000, num_resamples=500,
    ),
}  # fmt: skip
"""Sizes of the study, by name."""


def run(size: str, out: Path | None) -> tuple[IdentifiabilityStudy, Path]:
    """Run the study in its folder; the same command goes on where it stopped.

    Args:
        size: A key of :data:`SIZES`.
        out: Folder; by default named by the size.

    Returns:
        The study and the path of its page.

    Raises:
        UnknownNameError: If there is no such size.
        RunFolderError: If the folder holds something else, or cannot be written.
    """
    if size not in SIZES:
        raise UnknownNameError("size", size, SIZES)
    folder = out or Path("runs") / f"study-{NAME}-{size}"
    study = run_identifiability(out=folder, settings=SIZES[size])
    return study, write_identifiability(study)
