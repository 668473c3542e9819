"""Objectives against reweighted wake-sleep, row by row: most of the spread over rows cancels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyrolvm.core.estimate import mean_over_data
from pyrolvm.inference.helmholtz.objectives import REWEIGHTED
from pyrolvm.inference.helmholtz.settings import Cell

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["data", "objective", "num_seeds", "nll", "nll_se", "bc2", "bc2_se"]
QUANTITIES = (("nll", "log_evidence", -1.0), ("bc2", "overlap", 1.0))


def differences(per_row: Mapping[Cell, Mapping[str, Tensor]]) -> pd.DataFrame:
    """Return how far each objective lies from reweighted wake-sleep on the same data.

    Args:
        per_row: Figures of each test row, by cell, as
            :class:`pyrolvm.inference.helmholtz.measuring.Measured` has them.

    Returns:
        One row for each data set and objective: ``nll`` and ``bc2`` are means over seeds and rows
        of the objective's figure less that of reweighted wake-sleep. The standard errors are over
        rows, and over seeds where there are several. Empty where nothing was trained by
        reweighted wake-sleep.
    """
    import pandas as pd

    found = []
    pairs = dict.fromkeys((c.data, c.objective) for c in per_row if c.objective != REWEIGHTED)
    for data, objective in pairs:
        own, other = (_by_seed(per_row, data, key) for key in (objective, REWEIGHTED))
        seeds = sorted(own.keys() & other.keys())
        if not seeds:
            continue
        row: dict[str, object] = {"data": data, "objective": objective, "num_seeds": len(seeds)}
        for name, column, sign in QUANTITIES:
            each = torch.stack([sign * (own[s][column] - other[s][column]) for s in seeds])
            row |= dict(zip((name, f"{name}_se"), _mean(each), strict=True))
        found.append(row)
    return pd.DataFrame(found, columns=COLUMNS)


def _by_seed(
    per_row: Mapping[Cell, Mapping[str, Tensor]], data: str, objective: str
) -> dict[int, Mapping[str, Tensor]]:
    return {
        cell.seed: rows
        for cell, rows in per_row.items()
        if (cell.data, cell.objective) == (data, objective)
    }


def _mean(each: Tensor) -> tuple[float, float]:
    """Mean of differences of shape ``(seeds, N)``, and its standard error over both."""
    over_rows = mean_over_data(each.mean(0))
    seeds = each.mean(1)
    over_seeds = (seeds.std() / math.sqrt(len(seeds))).item() if len(seeds) > 1 else 0.0
    return over_rows.value, math.hypot(over_rows.standard_error, over_seeds)
