"""What ``pyrolvm study helmholtz`` does: train the cells, write the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pyrolvm.core.errors import SettingError
from pyrolvm.inference.helmholtz import DEFAULT_DATA, HelmholtzStudy, run_helmholtz
from pyrolvm.inference.helmholtz.settings import size_named
from pyrolvm.report.helmholtz_page import write_helmholtz

Number = TypeVar("Number", int, float)

NAME = "helmholtz"
DESCRIPTION = (
    "What does coupling model and guide buy? Belief networks by objective: likelihood under p and "
    "p*, overlap of guide and posterior, depth."
)


def run(
    size: str,
    data: str | None,
    out: Path | None,
    objectives: str | None = None,
    depths: str | None = None,
    seeds: str | None = None,
    rates: str | None = None,
    device: str | None = None,
) -> tuple[HelmholtzStudy, Path]:
    """Run the study in its folder; the same command goes on where it stopped.

    Args:
        size: A key of :data:`pyrolvm.inference.helmholtz.SIZES`.
        data: Names of data sets, separated by commas; two that need no download where it is None.
        out: Folder; by default named by the size.
        objectives: Keys of :data:`pyrolvm.inference.helmholtz.OBJECTIVES`, separated by commas;
            those of the size where it is None.
        depths: Numbers of layers for the sweep over depths, separated by commas.
        seeds: Whole numbers, separated by commas; those of the size where it is None.
        rates: Learning rates to choose from, likewise.
        device: Where to compute.

    Returns:
        The study and the path of its page.

    Raises:
        UnknownNameError: If a size, a data set or an objective does not exist.
        SettingError: If depths, seeds or rates are no such numbers, or a list is empty.
    """
    settings = size_named(size)
    if seeds is not None:
        settings = dataclasses.replace(settings, seeds=_numbers("--seeds", seeds, int, "0,1,2"))
    if rates is not None:
        found = _numbers("--rates", rates, float, "0.02,0.01")
        if not all(rate > 0 for rate in found):
            raise SettingError(f"--rates needs learning rates above 0, but it is {rates!r}.")
        settings = dataclasses.replace(settings, learning_rates=found)
    study = run_helmholtz(
        DEFAULT_DATA if data is None else _parts("--data", data),
        objectives=None if objectives is None else _parts("--objectives", objectives),
        depths=() if depths is None else _numbers("--depths", depths, int, "1,2,4,6"),
        size=settings,
        out=out or Path("runs") / f"study-{NAME}-{size}",
        device=device,
    )
    return study, write_helmholtz(study)


def _parts(option: str, given: str) -> list[str]:
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not parts:
        raise SettingError(f"{option} needs names, separated by commas, but it is {given!r}.")
    return parts


def _numbers(
    option: str, given: str, kind: Callable[[str], Number], example: str
) -> tuple[Number, ...]:
    try:
        return tuple(kind(part) for part in _parts(option, given))
    except ValueError:
        raise SettingError(
            f"{option} needs numbers, separated by commas, for example {example}, but it is "
            f"{given!r}."
        ) from None
