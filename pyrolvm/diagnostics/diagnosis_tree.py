"""Findings as a group of a tree, and back: the page is made from the tree alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from pyrolvm.diagnostics.finding import Finding

if TYPE_CHECKING:
    import xarray as xr

NUMBERS = ("value", "standard_error")


def findings_dataset(findings: Sequence[Finding]) -> xr.Dataset:
    """One row a finding, along the dimension ``finding``; no defect is the empty text."""
    import xarray as xr

    columns = {}
    for name in (field.name for field in fields(Finding)):
        cells = [getattr(finding, name) for finding in findings]
        column = np.array(cells, float) if name in NUMBERS else np.array([c or "" for c in cells])
        columns[name] = ("finding", column if len(column) else column.astype("<U1"))
    return xr.Dataset(columns)


def read_findings(tree: xr.DataTree) -> tuple[Finding, ...]:
    """Findings of a stored diagnosis.

    Args:
        tree: With the group ``findings``.
    """
    group = tree["findings"].to_dataset()
    rows = zip(*(group[field.name].values for field in fields(Finding)), strict=True)
    found = []
    for row in rows:
        cells = {
            field.name: float(cell) if field.name in NUMBERS else str(cell)
            for field, cell in zip(fields(Finding), row, strict=True)
        }
        found.append(Finding(**{**cells, "defect": cells["defect"] or None}))  # type: ignore[arg-type]
    return tuple(found)
