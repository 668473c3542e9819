"""The surviving symmetries of Gaussian environments in words, and what they leave as it is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pyrolvm.identifiability import groups
from pyrolvm.identifiability.codes import Array
from pyrolvm.identifiability.gaussian_symmetries import Block, GaussianSymmetries
from pyrolvm.identifiability.groups import SymmetryGroup

NEGLIGIBLE = 1e-4
"""Part of a unit vector that counts as none."""


def surviving(found: GaussianSymmetries) -> SymmetryGroup:
    """Name the continuous maps that carry all environments into themselves.

    Args:
        found: The environments.
    """
    flips = [_flip(found, block) for block in found.blocks if len(block.free) == 1]
    sentences = [sentence for sentence, _ in flips]
    if found.is_nonlinear:
        turns = [_rotation(block) for block in found.blocks if len(block.free) > 1]
        return groups.anything((*_signs_first(sentences), *turns, _along_curves(found)))
    if not flips:
        return groups.identity()
    if all(axis for _, axis in flips):
        return groups.signs(_signs_first(sentences))
    mixed = [b for b in found.blocks if len(b.free) == 1 and len(_support(b.free[0])) > 1]
    isometric = all(map(found.is_isometric, mixed))
    if all(_is_exchange(block.free[0]) for block in mixed):
        return SymmetryGroup(
            "up to permutation, sign and scale",
            _signs_first(sentences),
            isometric=isometric,
            affine=True,
            coordinatewise=True,
        )
    make = groups.orthogonal if isometric else groups.affine
    return make(_signs_first(sentences))


def affine_maps(found: GaussianSymmetries) -> SymmetryGroup:
    """Name the affine maps that carry all environments into themselves, where no other may."""
    turns = tuple(_rotation(block) for block in found.blocks if len(block.free) > 1)
    if not turns:
        return surviving(found)
    flips = [_flip(found, block)[0] for block in found.blocks if len(block.free) == 1]
    mixed = [b for b in found.blocks if len(b.free) and len(b.coordinates) > 1]
    make = groups.orthogonal if all(map(found.is_isometric, mixed)) else groups.affine
    return make((*_signs_first(flips), *turns))


def coordinate_names(coordinates: Iterable[int]) -> str:
    """Names of latent coordinates, counted from 1.

    >>> coordinate_names([0, 2])
    'z_1, z_3'
    """
    return ", ".join(f"z_{c + 1}" for c in coordinates)


def _signs_first(sentences: list[str]) -> tuple[str, ...]:
    """Collect plain sign flips into one sentence: "sign flips in z_1, z_2"."""
    plain = [s.removeprefix(FLIP) for s in sentences if s.startswith(FLIP)]
    others = [s for s in sentences if not s.startswith(FLIP)]
    if not plain:
        return tuple(others)
    return (f"sign flip{'s' if len(plain) > 1 else ''} in {', '.join(plain)}", *others)


FLIP = "sign flip in "


def _flip(found: GaussianSymmetries, block: Block) -> tuple[str, bool]:
    """Describe the reflection of a block with one free direction; whether it is along an axis."""
    direction = block.free[0]
    inside = _support(direction)
    members = [block.coordinates[i] for i in inside]
    if len(inside) == 1:
        mean = float(found.loc[0, members[0]])
        if abs(mean) <= NEGLIGIBLE * found.scale[0, members[0]]:
            return f"{FLIP}{coordinate_names(members)}", True
        return f"reflection of {coordinate_names(members)} about its common mean {mean:.3g}", True
    names = coordinate_names(members)
    if not _is_exchange(direction):
        return f"a mirror that mixes {names}", False
    opposed = bool(direction[inside[0]] * direction[inside[1]] > 0)
    first, second = found.loc[0, members]
    scales = found.scale[0, members]
    shift = abs(first + second if opposed else first - second)
    alike = max(shift, np.ptp(scales)) <= NEGLIGIBLE * max(scales.max(), abs(first))
    details = "" if alike else " after shift and scale"
    details += ", with a change of sign" if opposed else ""
    return f"exchange of {' and '.join(names.split(', '))}{details}", False


def _rotation(block: Block) -> str:
    free, names = len(block.free), coordinate_names(block.coordinates)
    held = "" if free == len(block.coordinates) else " that keep the means"
    return f"rotations and mirrors of ({names}){held}, a group O({free})"


def _along_curves(found: GaussianSymmetries) -> str:
    moved = np.flatnonzero(np.abs(found.undirected).max(0) > NEGLIGIBLE)
    many = len(found.undirected)
    return (
        f"nonlinear maps of {coordinate_names(moved)} that keep the prior: in {many} "
        f"direction{'s' if many > 1 else ''} at each point no likelihood ratio of two "
        "environments changes"
    )


def _support(direction: Array) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.abs(direction) > NEGLIGIBLE)]


def _is_exchange(direction: Array) -> bool:
    """Whether a mirror exchanges two standardised coordinates, possibly with a change of sign."""
    inside = _support(direction)
    return len(inside) <= 1 or (
        len(inside) == 2
        and abs(abs(direction[inside[0]]) - abs(direction[inside[1]])) < NEGLIGIBLE
    )
