"""Which rows of a study's table a figure shows, and the columns that figures add to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.plots.encoder_budget import with_parameters
from pyrolvm.studies.labels import AS_DRAWN, labels, learner_labels, problem_labels

if TYPE_CHECKING:
    import pandas as pd

STRIP_COLUMNS = {"x": "train_nll", "row": "learner", "panel": "problem"}
"""Columns of a figure of strips, and what they are where it does not say."""
DERIVED = ("generator", "family", "learner", "problem", "overfitting")
"""Columns that figures add: short names of model and guide, how the generator learned, its data
and layers, and held-out less training negative log likelihood."""


def strip_columns(block: Mapping[str, Any]) -> dict[str, str]:
    """Columns of the axes of a figure of strips."""
    return {key: str(block.get(key, column)) for key, column in STRIP_COLUMNS.items()}


def rows_of(frame: pd.DataFrame, block: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of a study's table that a figure shows: those that meet all of its ``where``.

    They get the columns of :data:`DERIVED`. An encoder budget shows guides with parameters only,
    and strips those cells only whose generator learned.

    Raises:
        UnknownNameError: If the table lacks a column.
    """
    frame = _with_derived(frame)
    for column, wanted in block.get("where", {}).items():
        if column not in frame.columns:
            raise UnknownNameError("column of the study's table", column, frame.columns)
        values = wanted if isinstance(wanted, list) else [wanted]
        frame = frame[frame[column].isin(values)]
    if block["kind"] == "encoder-budget":
        frame = with_parameters(frame)
    if block["kind"] == "strips":
        frame = frame[frame["learner"] != AS_DRAWN]
    return frame.assign(generator=labels(frame, "model"), family=labels(frame, "guide"))


def _with_derived(frame: pd.DataFrame) -> pd.DataFrame:
    """Add how the generators learned, from what, and how much they fit training rows better."""
    known = {"train_nll", "nll"} <= set(frame.columns)
    return frame.assign(
        learner=learner_labels(frame),
        problem=problem_labels(frame),
        overfitting=frame["nll"] - frame["train_nll"] if known else np.nan,
    )


def with_covered_modes(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Add what covering C of 2^k equal modes costs, :math:`\max(0, \log(2^k / C))` nats.

    Args:
        frame: The table of a study of folding generators and their injective control.

    Returns:
        The table with the columns ``theory`` and ``doublings``, the logarithm of the slope.
    """
    import pandas as pd

    unknown = pd.Series(np.nan, index=frame.index)
    folds = frame.get("model.num_folds", unknown)
    doublings = folds.fillna(frame.get("model.num_doublings", unknown))
    folded = frame["model"].eq("folding") * doublings
    floor = np.maximum(0.0, np.log(2.0**folded / frame["guide.num_components"]))
    return frame.assign(theory=floor, doublings=doublings)
