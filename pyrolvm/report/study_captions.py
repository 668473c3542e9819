"""How to read each figure of a study, in a sentence or two below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyrolvm.plots.column_words import axis_label
from pyrolvm.plots.encoder_budget import CLOSE_NATS, CLOSE_TV
from pyrolvm.plots.study_figures import FOLDING
from pyrolvm.plots.study_rows import strip_columns
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
RUNS = (
    "A dot is a run from first weights and rows of its own; the bar is the median. Triangles at "
    "the edge: runs that end further out, or with a likelihood that is not finite. Processor "
    "seconds depend on the machine and its load; no other column does."
)
MODES = (
    "A dot is a held-out datum of one seed. The entropy of the masses of its exact posterior's "
    "modes is 0 for one mode and log 2 = 0.69 (dotted) for two equal ones. Diamonds: means over "
    "data in classes of that entropy. The axis of gaps is linear below 0.001; estimates below 0 "
    "are drawn there."
)
OWN_WORDS = {"strips": RUNS, "gaps-by-modes": MODES}
BOUND = "The evidence of some cells is only bounded from below: their gaps are at least these."


def caption(block: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """How to read a figure.

    Args:
        block: Its block ``[[figure]]``.
        rows: What it shows.
    """
    if block["kind"] in OWN_WORDS:
        return OWN_WORDS[block["kind"]]
    parts = [BUDGET] if block["kind"] == "encoder-budget" else []
    parts.append(_errors(rows))
    if block["kind"] == "folding":
        parts.append("Crosses: what covering so many of 2^k equal modes costs.")
    elif block.get("reference"):
        parts.append(f"Crosses: {sweep_axes(block).reference_name}.")
    if block.get("threshold") is not None:
        parts.append(f"Dotted: {block['threshold']:g}.")
    if "evidence_is_bound" in rows.columns and bool((rows["evidence_is_bound"] == True).any()):  # noqa: E712
        parts.append(BOUND)
    return " ".join(parts)


def alternative(block: Mapping[str, Any]) -> str:
    """What a figure shows, for those who do not see it."""
    if block["kind"] == "encoder-budget":
        return "Gap against encoder parameters, one panel a generator, one line a guide."
    if block["kind"] == "gaps-by-modes":
        return "Gap of every datum against the entropy of its posterior's modes, by guide."
    if block["kind"] == "strips":
        columns = {key: axis_label(name) for key, name in strip_columns(block).items()}
        return "{x} of every run, by {row} and {panel}.".format(**columns)
    axes = FOLDING if block["kind"] == "folding" else sweep_axes(block)
    by = [axis_label(name) for name in (axes.line, axes.panel) if name is not None]
    ending = f", by {' and '.join(by)}" if by else ""
    return f"{axis_label(axes.y)} against {axis_label(axes.x)}{ending}."


def number_of_seeds(rows: pd.DataFrame) -> int:
    """How often a study repeats a cell: different pairs of a problem's seed and an attempt's."""
    names = [name for name in ("model_seed", "seed") if name in rows.columns]
    return len(rows[names].drop_duplicates()) if names else 0


def _errors(rows: pd.DataFrame) -> str:
    seeds = number_of_seeds(rows)
    if seeds == 1:
        return "One seed only: the error bars are standard errors over data."
    return "Means over seeds with one standard error."
