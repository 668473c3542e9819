"""Tables of runs and of data: medians with their ranges, and gaps by the modes of posteriors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyrolvm.plots.column_words import axis_label, cell_label
from pyrolvm.plots.gaps_by_modes import ENTROPY, GAP, class_means, class_names
from pyrolvm.plots.quantities import MISSING, count, fixed, with_error
from pyrolvm.plots.sweep import ordered_values, rows_with
from pyrolvm.report.text_table import TextTable

if TYPE_CHECKING:
    import pandas as pd

COUNTED = {"rises": "runs that rose by more than 0.01"}
"""Columns of which a table tells in how many runs they are not 0, and what it says then."""
DECIMALS = 3


def runs_table(
    frame: pd.DataFrame, columns: Mapping[str, str], also: Sequence[str] = ()
) -> TextTable:
    """Median and range over runs, for each problem and each way of doing it.

    Args:
        frame: One row a run.
        columns: Columns ``"x"`` (the figure), ``"row"`` and ``"panel"``.
        also: Further columns.

    Returns:
        A line for each panel and row: ``"median [least, most]"`` of each column; of
        :data:`COUNTED` columns in how many runs they are not 0.
    """
    rows = []
    shown = (columns["x"], *also)
    for panel in ordered_values(frame, columns["panel"]):
        for row in ordered_values(frame, columns["row"]):
            part = rows_with(rows_with(frame, columns["panel"], panel), columns["row"], row)
            if not part.empty:
                names = (cell_label(columns["panel"], panel), cell_label(columns["row"], row))
                rows.append((*names, str(len(part)), *(_cell(part, name) for name in shown)))
    headers = [axis_label(columns["panel"]), axis_label(columns["row"]), "runs"]
    headers += [COUNTED.get(name, axis_label(name)) for name in shown]
    title = axis_label(columns["x"])
    title = f"{title[:1].upper()}{title[1:]}: median [least, most] over runs"
    return TextTable(title, tuple(headers), tuple(rows), 2)


def _cell(part: pd.DataFrame, name: str) -> str:
    values = part[name]
    if name in COUNTED:
        known = values.dropna()
        return f"{int((known > 0).sum())} of {len(known)}" if len(known) else MISSING
    if values.isna().all():
        return MISSING
    runs = values.fillna(np.inf).to_numpy(dtype=float)
    middle, least, most = (_text(v) for v in (np.median(runs), runs.min(), runs.max()))
    return middle if len(runs) == 1 else f"{middle} [{least}, {most}]"


def _text(value: float) -> str:
    """A figure with three decimals, fewer where it is large."""
    if not np.isfinite(value):
        return "∞"
    return fixed(value, DECIMALS if abs(value) < 100 else 1)


def modes_table(rows: pd.DataFrame) -> TextTable:
    """Mean gap of each guide in classes of the entropy of the exact posterior's modes.

    Args:
        rows: One row a guide and datum, from :func:`pyrolvm.plots.gaps_by_modes.of_guides`.
    """
    lines = []
    for guide in dict.fromkeys(rows["family"]):
        means = class_means(rows[rows["family"] == guide])
        cells = [
            with_error(found["mean"], found["error"] if found["count"] > 1 else np.nan)
            for _, found in means.iterrows()
        ]
        lines.append((str(guide), *cells))
    one = rows[rows["family"] == rows["family"].iloc[0]]
    lines.append(("number of data", *(count(n) for n in class_means(one)["count"])))
    title = f"{axis_label(GAP).capitalize()}, by {axis_label(ENTROPY)}"
    return TextTable(title, ("guide", *class_names()), tuple(lines), 1)
