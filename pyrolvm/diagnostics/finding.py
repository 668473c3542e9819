"""What one diagnostic says of a guide: a number, how sure it is, and a sentence for a person."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["good", "care", "bad", "unknown"]
"""``good``: nothing speaks against the guide; ``care``: usable for some purposes; ``bad``: do not
rely on it; ``unknown``: it could not be measured, and the sentence says why."""

Defect: TypeAlias = Literal[
    "too narrow",
    "too wide",
    "shifted",
    "ignores correlation",
    "misses a mode",
    "wrong shape",
    "encoder",
    "model misfit",
]
"""What is wrong: of the guide as an approximation, of its encoder, or of the model on the data."""


@dataclass(frozen=True)
class Finding:
    """One figure with its judgement.

    Args:
        diagnostic: The diagnostic it comes from: ``"importance"``, ``"evidence"``,
            ``"calibration"``, ``"two_sample"``, ``"moments"``, ``"prediction"``, ``"gaps"``.
        name: Name of the figure, as a person reads it: ``"k-hat, largest"``.
        value: The figure.
        standard_error: Its standard error; NaN where none applies.
        unit: ``"nats"``, ``"posterior sd"``, ``"share"``, …; empty for plain numbers.
        level: What it means for the guide.
        sentence: Says it in words, with the site and the numbers: one full sentence.
        defect: The defect that it shows, if it shows one.
        advice: What to try next, one full sentence; empty where nothing has to be done.
    """

    diagnostic: str
    name: str
    value: float
    standard_error: float = math.nan
    unit: str = ""
    level: Level = "good"
    sentence: str = ""
    defect: Defect | None = None
    advice: str = ""
