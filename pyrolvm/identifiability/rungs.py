"""The rungs of the ladder in order, and what it means to agree on one and not on the one below."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pyrolvm.identifiability.intervals import Metric
from pyrolvm.identifiability.ladder import (
    affine_r2,
    mcc,
    orthogonal_r2,
    raw_r2,
    sign_r2,
    signed_correlation,
    spearman_mcc,
)
from pyrolvm.identifiability.nonlinear import nonlinear_r2

LADDER: dict[str, Metric] = {
    "raw_r2": raw_r2,
    "signed_correlation": signed_correlation,
    "sign_r2": sign_r2,
    "mcc": mcc,
    "mcc_spearman": spearman_mcc,
    "orthogonal_r2": orthogonal_r2,
    "affine_r2": affine_r2,
    "nonlinear_r2": nonlinear_r2,
}
"""Agreement of two sets of codes, from no alignment at all to any smooth map."""

AGREE = 0.95
"""R² from which codes count as equal; a correlation counts from its square root on."""


@dataclass(frozen=True)
class Rung:
    """A class of maps, and the figure that is high where codes differ by such a map.

    Args:
        metric: Key of :data:`LADDER`.
        least: From where on codes agree.
        kind: The class of maps.
        sentence: What agreement here, and on no lower rung, means.
    """

    metric: str
    least: float
    kind: str
    sentence: str


RUNGS = (
    Rung("raw_r2", AGREE, "identified", "codes agree as they stand: coordinates are identified"),
    Rung("sign_r2", AGREE, "signs", "codes agree after sign flips, and not before"),
    Rung(
        "mcc",
        math.sqrt(AGREE),
        "permutation, sign and scale",
        "coordinates agree one by one, up to order, sign and scale",
    ),
    Rung(
        "mcc_spearman",
        math.sqrt(AGREE),
        "permutation and monotone maps",
        "coordinates agree one by one, up to order and monotone maps",
    ),
    Rung("orthogonal_r2", AGREE, "orthogonal", "codes agree after a rotation or mirror"),
    Rung("affine_r2", AGREE, "affine", "codes agree after an affine map"),
    Rung("nonlinear_r2", AGREE, "nonlinear", "codes differ by a nonlinear map"),
)
"""From the smallest class of maps to the largest."""

NOTHING = Rung("", -math.inf, "none", "no map leads from the codes of one run to those of another")


def lowest_rung(values: Mapping[str, float]) -> Rung:
    """Find the smallest class of maps up to which codes agree.

    Args:
        values: Figures by key of :data:`LADDER`; of several pairs the lowest ones.

    >>> lowest_rung(dict.fromkeys(LADDER, 0.99)).kind
    'identified'
    >>> lowest_rung(dict.fromkeys(LADDER, 0.99) | {"raw_r2": -1.0, "sign_r2": 0.4}).kind
    'permutation, sign and scale'
    """
    return next((rung for rung in RUNGS if values[rung.metric] >= rung.least), NOTHING)
