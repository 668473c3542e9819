"""A model that works in the units of its training data takes them before it learns."""

from __future__ import annotations

from typing import Any

from pyrolvm.core.capabilities import StandardisesData
from pyrolvm.core.data import Data
from pyrolvm.core.pairing import offers


def take_units(model: Any, rows: Data) -> None:
    """Let a model standardise by its training data, unless it has done so or has no such step.

    Args:
        model: A Pyro program.
        rows: The training data.

    Raises:
        DataError: If a coordinate of the observations does not vary.
    """
    x = dict(rows.items()).get("x", rows.only)
    if x is not None and offers(model, StandardisesData) and not model.is_standardised:
        model.standardise_by(x)
