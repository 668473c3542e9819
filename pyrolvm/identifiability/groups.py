"""What a group of surviving symmetries leaves as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal[
    "strong",
    "up to signs",
    "up to permutation, sign and scale",
    "up to increasing maps of each coordinate",
    "up to orthogonal",
    "up to affine",
    "none",
]


@dataclass(frozen=True)
class SymmetryGroup:
    """Maps A of the latent space by which two equally good models may differ.

    Args:
        level: The smallest class of maps that holds them.
        symmetries: The maps, a sentence each; empty where only the identity survives.
        isometric: Whether they keep Euclidean distances.
        affine: Whether they are affine.
        coordinatewise: Whether each coordinate of A(z) depends on one coordinate of z.
        increasing: Whether each coordinate of A(z) increases with the same coordinate of z and
            depends on nothing else.
    """

    level: Level
    symmetries: tuple[str, ...] = ()
    isometric: bool = False
    affine: bool = False
    coordinatewise: bool = False
    increasing: bool = False

    @property
    def is_trivial(self) -> bool:
        """Whether only the identity survives."""
        return self.level == "strong"


def identity() -> SymmetryGroup:
    """Nothing survives but the identity: an observation has one latent code."""
    return SymmetryGroup("strong", (), True, True, True, True)


def signs(symmetries: tuple[str, ...]) -> SymmetryGroup:
    """Reflections of single coordinates."""
    return SymmetryGroup("up to signs", symmetries, True, True, True)


def orthogonal(symmetries: tuple[str, ...]) -> SymmetryGroup:
    """Rotations and mirrors that mix coordinates."""
    return SymmetryGroup("up to orthogonal", symmetries, True, True)


def affine(symmetries: tuple[str, ...]) -> SymmetryGroup:
    """Affine maps that change distances."""
    return SymmetryGroup("up to affine", symmetries, affine=True)


def anything(symmetries: tuple[str, ...]) -> SymmetryGroup:
    """Nonlinear maps."""
    return SymmetryGroup("none", symmetries)
