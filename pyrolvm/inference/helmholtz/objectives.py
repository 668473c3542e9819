"""The objectives that the study sets side by side, all for one pair and with as many draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.objectives import (
    IWAE,
    VIMCO,
    CoupledELBO,
    LeaveOneOutELBO,
    ParticleObjective,
    ReweightedWakeSleep,
    WakeSleep,
)

COUPLED, REWEIGHTED = "coupled", "rws"


@dataclass(frozen=True)
class NamedObjective:
    """An objective of the study.

    Args:
        key: What the command line calls it.
        title: What tables and figures call it.
        make: Gives the objective for a number of draws.
    """

    key: str
    title: str
    make: Callable[[int], ParticleObjective]


OBJECTIVES: Mapping[str, NamedObjective] = {
    each.key: each
    for each in (
        NamedObjective(COUPLED, "coupled", CoupledELBO),
        NamedObjective(REWEIGHTED, "reweighted wake-sleep", ReweightedWakeSleep),
        NamedObjective("ws", "wake-sleep", WakeSleep),
        NamedObjective("vimco", "VIMCO", VIMCO),
        NamedObjective("elbo", "ELBO, leave-one-out", LeaveOneOutELBO),
        NamedObjective("iwae", "IWAE, score function", IWAE),
    )
}
"""By key, in the order of tables."""


def objectives_named(keys: Sequence[str]) -> tuple[NamedObjective, ...]:
    """Look objectives up.

    Raises:
        UnknownNameError: If one does not exist.
    """
    for key in keys:
        if key not in OBJECTIVES:
            raise UnknownNameError("objective", key, OBJECTIVES)
    return tuple(each for key, each in OBJECTIVES.items() if key in keys)
