"""Tables of a study as text: what each figure shows, and the smallest encoder that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyrolvm.plots.column_words import axis_label, cell_label
from pyrolvm.plots.encoder_budget import CLOSE_NATS, CLOSE_TV, is_far
from pyrolvm.plots.quantities import MISSING, count, number, with_error
from pyrolvm.plots.study_figures import FOLDING, shown_blocks
from pyrolvm.plots.study_rows import strip_columns, with_covered_modes
from pyrolvm.plots.sweep import (
    SweepAxes,
    mean_and_error,
    ordered_values,
    rows_with,
    sweep_axes,
)
from pyrolvm.report.runs_table import modes_table, runs_table
from pyrolvm.report.text_table import TextTable
from pyrolvm.studies.smallest import smallest_encoders

if TYPE_CHECKING:
    import pandas as pd

LARGER_IS_BETTER = ("tv_share", "elbo", "log_evidence", "ess", "bc2", "auroc")


def study_tables(
    frame: pd.DataFrame,
    figures: Sequence[Mapping[str, Any]],
    per_datum: pd.DataFrame | None = None,
) -> list[TextTable]:
    """One table for each figure of a study.

    Args:
        frame: The table of the study.
        figures: Its blocks ``[[figure]]``, or none for the default one.
        per_datum: Figures of every scored row, where a figure shows them.

    Returns:
        For an encoder budget the smallest encoder that comes close to each generator's posterior;
        for a sweep the means over seeds that it draws, and where they pass its threshold; for
        strips the median and the range of the runs; for gaps by modes the means of each class.
    """
    found = []
    for block, rows in shown_blocks(frame, figures, per_datum):
        if block["kind"] == "encoder-budget":
            found.append(_smallest(rows))
        elif block["kind"] == "folding":
            found.append(_means(with_covered_modes(rows), FOLDING))
        elif block["kind"] == "strips":
            found.append(runs_table(rows, strip_columns(block), block.get("also", ())))
        elif block["kind"] == "gaps-by-modes":
            found.append(modes_table(rows))
        else:
            found.append(_means(rows, sweep_axes(block)))
    return found


def _smallest(frame: pd.DataFrame) -> TextTable:
    """Smallest encoder within 0.05 nats, or a total variation of 0.1 where nats are many."""
    rows = []
    for generator, part in frame.groupby("generator", sort=False):
        far = is_far(part)
        for family, cells in part.groupby("family", sort=False):
            limit = {"tv": CLOSE_TV} if far else {"nats": CLOSE_NATS}
            best = smallest_encoders(cells, **limit).iloc[0]
            spread = best["spread"] / best["seeds"] ** 0.5
            shown = f"{with_error(best['value'], spread)} {'TV' if far else 'nats'}"
            size, hidden = count(best["parameters"]), str(best.get("guide.hidden", MISSING))
            if not best["found"]:
                size, hidden, shown = MISSING, MISSING, f"{shown}, best tried"
            rows.append((str(generator), str(family), size, hidden, shown))
    return TextTable(
        f"Smallest encoder within {CLOSE_NATS} nats (or a total variation of {CLOSE_TV})",
        ("generator", "guide", "parameters", "hidden layers", "gap"),
        tuple(rows),
    )


def _means(frame: pd.DataFrame, axes: SweepAxes) -> TextTable:
    places = sorted(frame[axes.x].dropna().unique().tolist())
    keys = [name for name in (axes.panel, axes.line) if name is not None]
    rows = []
    for panel in ordered_values(frame, axes.panel):
        for line in ordered_values(frame, axes.line):
            part = rows_with(rows_with(frame, axes.panel, panel), axes.line, line)
            part = part.dropna(subset=[axes.y])
            if part.empty:
                continue
            means = mean_and_error(part, axes.x, axes.y)
            cells = [_cell(means, place) for place in places]
            pairs = ((axes.panel, panel), (axes.line, line))
            names = [cell_label(key, name) for key, name in pairs if key is not None]
            shown = names or [axis_label(axes.y)]
            rows.append((*shown, *cells, *_passes(means, axes), *_theory(part, axes, places)))
    headers = [
        *map(axis_label, keys or [""]),
        *(cell_label(axes.x, str(place)) for place in places),
    ]
    if axes.threshold is not None:
        headers.append(f"first at {axes.threshold:g}")
    if axes.reference is not None:
        headers.append(axes.reference_name)
    title = f"{_capital(axis_label(axes.y))}, by {axis_label(axes.x)}"
    return TextTable(title, tuple(headers), tuple(rows), max(1, len(keys)))


def _cell(means: pd.DataFrame, place: float) -> str:
    if place not in means.index:
        return MISSING
    return with_error(float(means["mean"][place]), float(means["error"][place]))


def _passes(means: pd.DataFrame, axes: SweepAxes) -> tuple[str, ...]:
    """Where the mean is first as good as the threshold."""
    if axes.threshold is None:
        return ()
    values = means["mean"]
    good = values >= axes.threshold if axes.y in LARGER_IS_BETTER else values <= axes.threshold
    return (f"{values.index[good][0]:,.6g}" if good.any() else MISSING,)


def _theory(part: pd.DataFrame, axes: SweepAxes, places: Sequence[float]) -> tuple[str, ...]:
    if axes.reference is None:
        return ()
    truth = part.groupby(axes.x)[axes.reference].mean()
    texts = [number(float(truth[each]), 3) for each in places if each in truth.index]
    return (" / ".join(texts if len(set(texts)) > 1 else texts[:1]),)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
