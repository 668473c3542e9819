"""What ``pyrolvm study helmholtz`` does: train the cells, write the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyrolvm.core.errors import SettingError
from pyrolvm.inference.helmholtz import DEFAULT_DATA, HelmholtzStudy, run_helmholtz
from pyrolvm.report.helmholtz_page import write_helmholtz

NAME = "helmholtz"
DESCRIPTION = (
    "What does coupling model and guide buy? Belief networks by objective: likelihood under p and "
    "p*, overlap of guide and posterior, depth."
)


def run(
    size: str,
    data: str | None,
    objectives: str | None,
    depths: str | None,
    out: Path | None,
    device: str | None = None,
) -> tuple[HelmholtzStudy, Path]:
    """Run the study in its folder; the same command goes on where it stopped.

    Args:
        size: A key of :data:`pyrolvm.inference.helmholtz.SIZES`.
        data: Names of data sets, separated by commas; two that need no download where it is None.
        objectives: Keys of :data:`pyrolvm.inference.helmholtz.OBJECTIVES`, separated by commas;
            those of the size where it is None.
        depths: Numbers of layers for the sweep over depths, separated by commas.
        out: Folder; by default named by the size.
        device: Where to compute.

    Returns:
        The study and the path of its page.

    Raises:
        UnknownNameError: If a size, a data set or an objective does not exist.
        SettingError: If depths are no whole numbers, or a list is empty.
    """
    study = run_helmholtz(
        DEFAULT_DATA if data is None else _parts("--data", data),
        objectives=None if objectives is None else _parts("--objectives", objectives),
        depths=() if depths is None else _whole_numbers(depths),
        size=size,
        out=out or Path("runs") / f"study-{NAME}-{size}",
        device=device,
    )
    return study, write_helmholtz(study)


def _parts(option: str, given: str) -> list[str]:
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not parts:
        raise SettingError(f"{option} needs names, separated by commas, but it is {given!r}.")
    return parts


def _whole_numbers(given: str) -> Sequence[int]:
    try:
        return [int(part) for part in _parts("--depths", given)]
    except ValueError:
        raise SettingError(
            f"--depths needs numbers of layers, separated by commas, for example 1,2,4,6, but it "
            f"is {given!r}."
        ) from None
