"""Which cells of a study are trained together: those that differ in their seeds only.

The ensemble of a cell is part of its configuration: who is in it, and whether its steps are
compiled. It is always trained whole, so that a cell comes out the same whichever cells of the
study are there already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyrolvm.core.checkpoint import fingerprint
from pyrolvm.studies.cell import ENSEMBLE, MEMBERS, Cell

SEEDS = ("model_seed", "seed")
CHOICES = ("none", "auto", "batched", "compiled")
"""How cells that differ in their seeds only are trained; the first: each alone."""
MOST_MEMBERS = 16
STEPS_TO_COMPILE = 10_000
"""Steps from which on compiling an ensemble takes less time than it saves."""


def in_ensembles(configurations: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """Return cells of which those that ask for it know their ensemble.

    Args:
        configurations: Of all cells of a study, each once.

    Returns:
        The cells in the same order. One that is trained alone, because nothing differs from it in
        the seeds only or because its training is not that of an ensemble, is as if it had not
        asked.
    """
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for configuration in configurations:
        if _can_be_together(configuration):
            alike.setdefault(_without_seeds(configuration), []).append(configuration)
    members = {
        fingerprint(dict(configuration)): _names(part)
        for configurations in alike.values()
        for part in _parts(configurations)
        if len(part) > 1
        for configuration in part
    }
    return [_cell(each, members.get(fingerprint(dict(each)))) for each in configurations]


def members_of(configuration: Mapping[str, Any]) -> list[Cell]:
    """Return all cells of the ensemble of a cell.

    Args:
        configuration: Of the cell.
    """
    seeds = [map(int, name.split(":")) for name in configuration[MEMBERS].split()]
    return [Cell({**configuration, **dict(zip(SEEDS, own, strict=True))}) for own in seeds]


def _can_be_together(configuration: Mapping[str, Any]) -> bool:
    asked, steps = configuration[ENSEMBLE] != CHOICES[0], configuration["steps"]
    return asked and steps > 0 and configuration["objective"] == "elbo"


def _without_seeds(configuration: Mapping[str, Any]) -> str:
    return fingerprint({key: value for key, value in configuration.items() if key not in SEEDS})


def _parts(configurations: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Equal parts of at most :data:`MOST_MEMBERS`."""
    number = -(-len(configurations) // MOST_MEMBERS)
    size = -(-len(configurations) // number)
    for start in range(0, len(configurations), size):
        yield configurations[start : start + size]


def _names(configurations: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(":".join(str(each[key]) for key in SEEDS) for each in configurations)


def _cell(configuration: Mapping[str, Any], members: str | None) -> Cell:
    rest = {key: value for key, value in configuration.items() if key != ENSEMBLE}
    if members is None:
        return Cell(rest)
    choice = configuration[ENSEMBLE]
    if choice == "auto":
        choice = "compiled" if configuration["steps"] >= STEPS_TO_COMPILE else "batched"
    return Cell({**rest, ENSEMBLE: choice, MEMBERS: members})
