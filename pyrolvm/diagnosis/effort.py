"""How much a diagnosis measures: seconds, a minute or two, or as long as it takes."""

from __future__ import annotations

from dataclasses import dataclass

from pyrolvm.core.errors import SettingError


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        num_annealed: Most data whose evidence is annealed where it is not known otherwise; with
            more, the importance-weighted bound has to do.
        num_reference: Data at which the guide is held against draws of the posterior; 0 for none.
        reference_seconds: Most seconds that NUTS may take for them.
        num_gap: Data at which the gap is split; 0 for none.
        num_simulations: Simulations of an amortized guide's calibration; 0 for none.
        num_refits: The same where every simulation asks for a fit of its own.
        annealing_seconds: Most seconds that annealing may ask for, by a trial; where it would take
            longer, the importance-weighted bound has to do.
    """

    num_annealed: int
    num_reference: int
    reference_seconds: float
    num_gap: int
    num_simulations: int
    num_refits: int
    annealing_seconds: float = 60.0


EFFORTS = {
    "quick": Effort(0, 0, 0.0, 0, 0, 0),
    "standard": Effort(200, 8, 300.0, 64, 1000, 0),
    "full": Effort(10_000, 64, 1800.0, 1000, 2000, 200, 1800.0),
}


def effort_of(effort: str | Effort) -> Effort:
    """Return an effort by its name, or the one that was given.

    Raises:
        SettingError: If there is none of that name.
    """
    if isinstance(effort, Effort):
        return effort
    if effort not in EFFORTS:
        raise SettingError(
            f"effort should be {', '.join(map(repr, EFFORTS))} or an Effort, but it is {effort!r}."
        )
    return EFFORTS[effort]
