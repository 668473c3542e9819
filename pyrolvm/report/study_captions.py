"""How to read each figure of a study, in a sentence or two below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyrolvm.plots.column_words import axis_label
from pyrolvm.plots.encoder_budget import CLOSE_NATS, CLOSE_TV
from pyrolvm.plots.study_figures import FOLDING
from pyrolvm.plots.sweep import sweep_axes

if TYPE_CHECKING:
    import pandas as pd

BUDGET = (
    "Lines: the gap. The denser area below is its approximation part, a limit of the guide's "
    "family; the fainter one its amortization part, which a larger or better trained encoder can "
    f"win back. Dotted: what counts as close, {CLOSE_NATS:g} nats. Generators whose wrong modes "
    f"cost tens of nats are shown in total variation (0 to 1; dotted: {CLOSE_TV:g}). The axis of "
    "nats is linear up to 0.1 and logarithmic above."
)
BOUND = "The evidence of some cells is only bounded from below: their gaps are at least these."


def caption(block: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """How to read a figure.

    Args:
        block: Its block ``[[figure]]``.
        rows: What it shows.
    """
    parts = [BUDGET] if block["kind"] == "encoder-budget" else []
    parts.append(_errors(rows))
    if block["kind"] == "folding":
        parts.append("Crosses: what covering so many of 2^k equal modes costs.")
    elif block.get("reference"):
        parts.append("Crosses: theory.")
    if block.get("threshold") is not None:
        parts.append(f"Dotted: {block['threshold']:g}.")
    if "evidence_is_bound" in rows.columns and bool((rows["evidence_is_bound"] == True).any()):  # noqa: E712
        parts.append(BOUND)
    return " ".join(parts)


def alternative(block: Mapping[str, Any]) -> str:
    """What a figure shows, for those who do not see it."""
    if block["kind"] == "encoder-budget":
        return "Gap against encoder parameters, one panel a generator, one line a guide."
    axes = FOLDING if block["kind"] == "folding" else sweep_axes(block)
    by = [axis_label(name) for name in (axes.line, axes.panel) if name is not None]
    ending = f", by {' and '.join(by)}" if by else ""
    return f"{axis_label(axes.y)} against {axis_label(axes.x)}{ending}."


def _errors(rows: pd.DataFrame) -> str:
    seeds = rows["seed"].nunique() if "seed" in rows.columns else 0
    if seeds == 1:
        return "One seed only: the error bars are standard errors over data."
    return "Means over seeds with one standard error."
