"""What ``pyrolvm study rate-plane`` does: train the plane, add the closed form, write the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.core.files import write_text
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference.rate_plane import (
    LinearPlane,
    RatePlane,
    linear_rate_plane,
    run_rate_plane,
    trained_linear_plane,
)
from pyrolvm.models import HierarchicalLinearGaussian
from pyrolvm.report.rate_plane_page import write_rate_plane

NAME = "rate-plane"
DESCRIPTION = (
    "Which rate of each layer serves which task? Two-layer hierarchical VAEs under a grid of "
    "weights: reconstruction, classification, samples, likelihood."
)
TRAINED = "linear-trained.csv"


@dataclass(frozen=True)
class Size:
    """How large a plane is.

    Args:
        grid: Weights of each layer.
        seeds: Each trains the whole grid once.
        steps: Steps of training.
        linear: Weights of each layer at which the linear model is trained, beside its closed form.
        linear_steps: Steps of each of these trainings.
    """

    grid: int
    seeds: tuple[int, ...]
    steps: int
    linear: int = 3
    linear_steps: int = 1000


SIZES: Mapping[str, Size] = {
    "smoke": Size(2, (0,), 60, 0),
    "default": Size(5, (0, 1), 1500),
    "full": Size(9, (0, 1, 2, 3, 4), 5000),
}


def run(
    size: str,
    data: str | None,
    grid: int | None,
    network: str,
    out: Path | None,
) -> tuple[RatePlane, Path]:
    """Run the study in its folder; the same command goes on where it stopped.

    Args:
        size: A key of :data:`SIZES`.
        data: Name of a data set with classes; ``"digits"`` where it is None.
        grid: Weights of each layer; that of the size where it is None.
        network: ``"mlp"`` or ``"conv"``.
        out: Folder; by default named by data, network and size.

    Returns:
        The plane and the path of its page.

    Raises:
        UnknownNameError: If there is no such size.
        SettingError: If several data sets were named.
    """
    if size not in SIZES:
        raise UnknownNameError("size", size, SIZES)
    name, chosen = data or "digits", SIZES[size]
    if "," in name:
        raise SettingError(f"{NAME} takes one data set at a time, but --data names {name!r}.")
    if grid is not None:
        chosen = dataclasses.replace(chosen, grid=grid)
    folder = out or Path("runs") / f"study-{NAME}-{name.replace(':', '-')}-{network}-{size}"
    plane = run_rate_plane(
        name,
        grid=chosen.grid,
        seeds=chosen.seeds,
        steps=chosen.steps,
        network=network,
        out=folder,
    )
    return plane, write_rate_plane(plane, linear=_linear(chosen, folder))


def _linear(size: Size, folder: Path) -> LinearPlane:
    """The closed form of a linear model, with a few trainings on top; these are kept in a file."""
    with own_randomness(0):
        model = HierarchicalLinearGaussian((3, 2), 5).double()
    plane, file = linear_rate_plane(model), folder / TRAINED
    if not size.linear:
        return plane
    if not file.is_file():
        trained = trained_linear_plane(model, size.linear, steps=size.linear_steps, progress=False)
        write_text(file, trained.to_csv(index=False))
    return dataclasses.replace(plane, trained=pd.read_csv(file))
