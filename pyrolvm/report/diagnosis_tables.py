"""The tables of a diagnosis: all findings by diagnostic, and the data that are worst off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pyrolvm.diagnostics.finding import Finding, Level
from pyrolvm.plots.quantities import MISSING, number, parts_with_error, with_error
from pyrolvm.report.diagnosis_words import DIAGNOSTICS, MARKS, Diagnostic, worst
from pyrolvm.report.text_table import TextTable

MOST_DATA = 6
"""Data that the table of the worst shows."""


@dataclass(frozen=True)
class Row:
    """One finding, ready to be shown.

    Args:
        finding: What was found.
        value: The figure as text.
        error: Its standard error as text; empty where none is known.
        sign: Sign of the level.
        word: Word of the level.
    """

    finding: Finding
    value: str
    error: str
    sign: str
    word: str


@dataclass(frozen=True)
class Block:
    """The findings of one diagnostic.

    Args:
        diagnostic: Which.
        level: Its worst level.
        sign: Sign of that level.
        word: Word of that level.
        rows: Its findings, in the order in which they were made.
    """

    diagnostic: Diagnostic
    level: Level
    sign: str
    word: str
    rows: tuple[Row, ...]


def blocks(findings: Sequence[Finding]) -> tuple[Block, ...]:
    """Findings by diagnostic, in the order of the page; a diagnostic without any is left out."""
    known = {diagnostic.key for diagnostic in DIAGNOSTICS}
    others = dict.fromkeys(f.diagnostic for f in findings if f.diagnostic not in known)
    named = (*DIAGNOSTICS, *(Diagnostic(key, key, "") for key in others))
    of = {each.key: [f for f in findings if f.diagnostic == each.key] for each in named}
    return tuple(_block(each, of[each.key]) for each in named if of[each.key])


def _block(diagnostic: Diagnostic, findings: Sequence[Finding]) -> Block:
    level = worst(findings)
    return Block(diagnostic, level, *MARKS[level], tuple(map(_row, findings)))


def _row(finding: Finding) -> Row:
    if math.isfinite(finding.standard_error):
        value, error = parts_with_error(finding.value, finding.standard_error)
    else:
        value, error = number(finding.value), ""
    return Row(finding, value, error, *MARKS[finding.level])


def worst_data(tree: xr.DataTree) -> TextTable | None:
    """The data with the largest k-hat, and what else is known of each; None for a single datum.

    Args:
        tree: Of the diagnosis.
    """
    weights = _group(tree, "importance")
    if weights is None or "khat" not in weights or weights.sizes["datum"] < 2:
        return None
    khat = np.asarray(weights["khat"].values, dtype=float)
    ranking = np.where(np.isnan(khat), np.inf, khat)
    chosen = np.argsort(-ranking, kind="stable")[:MOST_DATA].tolist()
    gaps = _group(tree, "gaps")
    data = _labels(weights)[chosen]
    columns = {
        "datum": list(map(str, data)),
        "k-hat": _cells(weights, "khat", data, digits=2),
        "ESS, draws": _cells(weights, "ess", data),
        "BC²": _cells(weights, "bc2", data, digits=2),
        "gap, nats": _cells(gaps, "total", data),
        "by its family": _cells(gaps, "approximation", data),
        f"by {_second(gaps)}": _cells(gaps, "amortization", data),
    }
    kept = {name: cells for name, cells in columns.items() if set(cells) != {MISSING}}
    rows = tuple(zip(*kept.values(), strict=True))
    return TextTable("Where is it worst?", tuple(kept), rows, keys=1)


def _second(gaps: xr.Dataset | None) -> str:
    part = "" if gaps is None else gaps.attrs.get("shared_part", "")
    return "its training" if part == "optimisation" else "its encoder"


def _labels(group: xr.Dataset) -> NDArray[Any]:
    """The data of a group, by their row; groups of chosen data name theirs."""
    return np.asarray(group.coords.get("datum", np.arange(group.sizes["datum"])))


def _cells(group: xr.Dataset | None, name: str, data: NDArray[Any], digits: int = 3) -> list[str]:
    """One variable at some data; missing where the group does not have the datum."""
    if group is None or name not in group or group[name].dims != ("datum",):
        return [MISSING] * len(data)
    places = {label: place for place, label in enumerate(_labels(group).tolist())}
    values = np.asarray(group[name].values, dtype=float)
    error = f"{name}_se"
    errors = np.asarray(group[error].values if error in group else np.full_like(values, np.nan))
    cells = []
    for place in (places.get(label) for label in data.tolist()):
        if place is None:
            cells.append(MISSING)
        elif math.isfinite(errors[place]):
            cells.append(with_error(values[place], errors[place]))
        else:
            cells.append(number(values[place], digits))
    return cells


def _group(tree: xr.DataTree, name: str) -> xr.Dataset | None:
    node = tree.children.get(name)
    return None if node is None or not node.data_vars else node.to_dataset()
