"""The page of the study of identifiability: the answer, the ladder, the table, the notes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pyrolvm.core.files import write_text
from pyrolvm.plots.identifiability_ladder import identifiability_ladder
from pyrolvm.plots.quantities import MISSING, fixed
from pyrolvm.plots.saving import save
from pyrolvm.plots.theme import WIDE, ThemeName
from pyrolvm.report.four_looks import picture
from pyrolvm.report.identifiability_words import (
    agreement_cells,
    findings,
    headline,
    name,
    notes,
    titles,
)
from pyrolvm.report.page import Picture, style
from pyrolvm.report.templates import render
from pyrolvm.report.text_table import TextTable
from pyrolvm.studies.identifiability import EXPERIMENTS, IdentifiabilityStudy

PAGE = "identifiability.html"
CARDS_BELOW = 1100
"""Width of a window, CSS pixels, up to which a row of a table is a card."""
FIGURES = {
    "ladder": (
        ("triangular-map", "fixed-prior-warm-start", "learned-prior", "generic-flow", "vae"),
        "On which rung do runs agree?",
    ),
    "ladder_signs": (
        ("triangular-vae", "surface-vae", "curve-sign", "curve", "fixed-prior-centred"),
        "And where only signs or rotations are open?",
    ),
}
"""Cells of each figure, and the question that it answers."""
CAPTION = (
    "From below: codes as they stand, then after ever larger classes of maps; above, distances of "
    "codes and distances on the generated surface. Small dots are pairs of runs with their 95 % "
    "intervals, large marks medians; triangles at the left edge lie below −1."
)
RUNGS = {
    "raw_r2": "raw R²",
    "signed_correlation": "signed corr.",
    "sign_r2": "R², signs",
    "mcc": "MCC",
    "mcc_spearman": "MCC, ranks",
    "orthogonal_r2": "R², rotation",
    "affine_r2": "R², affine",
    "nonlinear_r2": "R², smooth",
}
"""Columns of the table of the ladder."""
SHOWN = ("model", "check", "runs", "bound, nats", "raw R²", "MCC", "truth: raw R²")
"""Columns that the terminal shows."""
LEVELS = {"none": "not at all", "strong": "strongly"}
"""How far a model is identified, in words."""


def write_identifiability(study: IdentifiabilityStudy, path: str | Path | None = None) -> Path:
    """Write the page of a study, and its figures beside it.

    Args:
        study: From :func:`pyrolvm.studies.identifiability.run_identifiability`.
        path: Of the HTML file; ``identifiability.html`` in the study's folder where it is None.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: If a file cannot be written.
    """
    path = study.folder / PAGE if path is None else Path(path)
    for key in FIGURES:
        if _drawable(study, key):
            save(ladder_figure(study, key), path.parent / "figures", key)
    write_text(path, _render(study))
    return path


def ladder_figure(
    study: IdentifiabilityStudy, key: str, theme: ThemeName = "light", width: float = WIDE
) -> Figure:
    """Draw the ladders of the cells of one figure; those without two runs to compare are left out.

    Args:
        study: The study.
        key: A key of :data:`FIGURES`.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.
    """
    named = titles(study)
    frames = {named[cell]: study.ladders[cell] for cell in _drawable(study, key)}
    return identifiability_ladder(frames, theme, width=width)


def agreement_table(study: IdentifiabilityStudy) -> TextTable:
    """The table of the page: theory, bounds, agreement as it stands beside MCC, the truth."""
    headers = (
        "model", "check", "left open", "runs", "bound, nats", "raw R²", "MCC", "truth: raw R²",
        "truth: MCC", "R-hat", "s a run",
    )  # fmt: skip
    rows = tuple(_row(dict(row)) for _, row in study.frame.iterrows())
    return TextTable("What theory says, and what runs do", headers, rows, 3)


def ladder_table(study: IdentifiabilityStudy) -> TextTable:
    """The table of all rungs."""
    rows = tuple(
        (name(row), *agreement_cells(row, tuple(RUNGS)))
        for row in (dict(row) for _, row in study.frame.iterrows())
    )
    return TextTable("The whole ladder", ("model", *RUNGS.values()), rows, 1)


def short_table(study: IdentifiabilityStudy) -> TextTable:
    """What the terminal shows."""
    table = agreement_table(study)
    shown = [i for i, header in enumerate(table.headers) if header in SHOWN]
    rows = tuple(tuple(row[i] for i in shown) for row in table.rows)
    title = f"{table.title}: mean over pairs of runs / lowest pair [95 % interval]"
    return TextTable(title, tuple(table.headers[i] for i in shown), rows, 2)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        name(row),
        LEVELS.get(row["level"], row["level"]) + (f", then {row['rule']}" if row["rule"] else ""),
        row["symmetries"] or "nothing",
        f"{row['used']} of {row['runs']}",
        f"{fixed(row['bound_best'], 3)} … {fixed(row['bound_worst'], 3)}",
        _raw(row),
        *agreement_cells(row, ("mcc",)),
        _known(row, "truth_raw_r2", 3),
        _known(row, "truth_mcc", 3),
        _known(row, "rhat_median", 2),
        fixed(row["seconds"], 1),
    )


def _raw(row: dict[str, Any]) -> str:
    (cell,) = agreement_cells(row, ("raw_r2",))
    if cell == MISSING:
        return cell
    return f"{cell} [{fixed(row['raw_r2_low'], 3)}, {fixed(row['raw_r2_high'], 3)}]"


def _known(row: dict[str, Any], key: str, decimals: int) -> str:
    value = float(row.get(key, math.nan))
    return MISSING if math.isnan(value) else fixed(value, decimals)


def _runs_table(study: IdentifiabilityStudy) -> TextTable:
    names = titles(study)
    rows = tuple(
        (
            names[run["cell"]],
            str(run["seed"]),
            str(run["rank"]),
            f"{fixed(run['bound'], 3)} ± {fixed(run['bound_se'], 3)}",
            fixed(run["behind"], 3),
            "failed" if run["failed"] else ("yes" if run["used"] else "no"),
            fixed(run["seconds"], 1),
        )
        for _, run in study.runs.iterrows()
    )
    headers = ("model", "seed", "rank", "bound, nats", "behind", "compared", "s")
    return TextTable("All runs, the best bound of each model first", headers, rows, 1)


def _drawable(study: IdentifiabilityStudy, key: str) -> list[str]:
    comparable = set(study.frame.loc[study.frame["used"] > 1, "cell"])
    return [cell for cell in FIGURES[key][0] if cell in comparable]


def _render(study: IdentifiabilityStudy) -> str:
    return render(
        "identifiability_page.html",
        style=style(CARDS_BELOW),
        title="When do runs of one model agree about latent codes?",
        headline=headline(study),
        facts=_facts(study),
        findings=findings(study),
        notes=notes(study),
        pictures=[_picture(study, key) for key in FIGURES if _drawable(study, key)],
        agreement=agreement_table(study),
        ladder=ladder_table(study),
        runs=_runs_table(study),
    )


def _picture(study: IdentifiabilityStudy, key: str) -> Picture:
    named = titles(study)
    shown = ", ".join(named[cell] for cell in _drawable(study, key))
    alternative = f"Agreement of pairs of runs on each rung of the ladder, for: {shown}."
    return picture(
        key,
        FIGURES[key][1],
        CAPTION,
        alternative,
        lambda theme, width: ladder_figure(study, key, theme, width),
    )


def _facts(study: IdentifiabilityStudy) -> list[tuple[str, str]]:
    kinds = [EXPERIMENTS[key] for key in dict.fromkeys(study.frame["experiment"])]
    sizes = study.settings
    return [
        ("models", f"{len(study.frame)}, {len(study.runs)} runs"),
        ("data", "; ".join(kinds)),
        (
            "steps",
            f"{sizes.flow_steps:,} (flows), {sizes.elbo_steps:,} (ELBO), {sizes.curve_steps:,} "
            "(curve)",
        ),
        ("compared", f"codes of {sizes.test_rows:,} held-out rows"),
    ]
