"""Which tasks have one answer, whatever equally good model was found.

A task is identified where its result does not change under any map of the surviving group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.identifiability.groups import SymmetryGroup


@dataclass(frozen=True)
class TaskVerdict:
    """Whether one task is identified.

    Args:
        task: Its name, a key of :data:`TASKS`.
        is_invariant: Whether all equally good models give the same answer.
        reason: Why, in one sentence.
    """

    task: str
    is_invariant: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.task}: {'identified' if self.is_invariant else 'NOT identified'}. " + (
            self.reason
        )


@dataclass(frozen=True)
class _Task:
    """What a task needs of the group, and why."""

    holds: Callable[[SymmetryGroup], bool]
    yes: str
    no: str


def _always(_group: SymmetryGroup) -> bool:
    return True


def _isometric(group: SymmetryGroup) -> bool:
    return group.isometric


def _affine(group: SymmetryGroup) -> bool:
    return group.affine


def _coordinatewise(group: SymmetryGroup) -> bool:
    return group.coordinatewise


def _increasing(group: SymmetryGroup) -> bool:
    return group.increasing


def _trivial(group: SymmetryGroup) -> bool:
    return group.is_trivial


TASKS: dict[str, _Task] = {
    "sampling": _Task(_always, "All equally good models have the same law of x.", ""),
    "density": _Task(_always, "All equally good models have the same density of x.", ""),
    "reconstruction": _Task(
        _always, "The map from x to its denoised mean does not pass through a choice of code.", ""
    ),
    "pullback_distances": _Task(
        _always, "Lengths of curves on the surface g(z) do not depend on its coordinates.", ""
    ),
    "distances": _Task(
        _isometric,
        "All maps that survive keep Euclidean distances of codes.",
        "A map survives that changes Euclidean distances of codes; pullback_distances are kept.",
    ),
    "clustering": _Task(
        _isometric,
        "Clusters by Euclidean distances of codes stay, as all maps that survive keep these.",
        "A map survives that changes Euclidean distances of codes, and with them the clusters.",
    ),
    "linear_probe": _Task(
        _affine,
        "What is linear in the code stays so under every map that survives.",
        "A nonlinear map survives: what one code shows linearly, another does not.",
    ),
    "latent_arithmetic": _Task(
        _affine,
        "The image of a - b + c stays, as all maps that survive are affine.",
        "A nonlinear map survives, which does not carry a - b + c to the same combination.",
    ),
    "interpolation": _Task(
        _affine,
        "Straight lines between codes stay straight under every map that survives.",
        "A nonlinear map survives, which bends the straight line between two codes.",
    ),
    "disentanglement": _Task(
        _coordinatewise,
        "Coordinates are kept one by one, up to order, sign and a map of their own.",
        "A map survives that mixes coordinates, so that none of them has a meaning of its own.",
    ),
    "relative_rank": _Task(
        _increasing,
        "The order of data along each coordinate stays under every map that survives.",
        "A map survives that changes the order of data along a coordinate.",
    ),
    "single_coordinates": _Task(
        _trivial,
        "No map survives: the value of a coordinate is the same in every run.",
        "A map survives that changes the value of a coordinate.",
    ),
    "comparison_of_codes": _Task(
        _trivial,
        "No map survives: codes of different runs can be compared as they stand.",
        "Codes of different runs may differ by a map that survives; align them first.",
    ),
}
"""Every task that :func:`pyrolvm.identifiability.check` knows."""


def verdict(task: str, group: SymmetryGroup) -> TaskVerdict:
    """Say whether a task is identified under a group of surviving symmetries.

    Args:
        task: A key of :data:`TASKS`; spaces and hyphens count as underscores.
        group: What survives.

    Raises:
        UnknownNameError: If there is no such task.
    """
    name = str(task).strip().replace(" ", "_").replace("-", "_")
    if name not in TASKS:
        raise UnknownNameError("task", str(task), TASKS)
    found = TASKS[name]
    kept = found.holds(group)
    return TaskVerdict(name, kept, found.yes if kept else found.no)
