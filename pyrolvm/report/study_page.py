"""The page of a study: its question, its figures, how to read them, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from pyrolvm.core.files import write_text
from pyrolvm.plots.saving import save
from pyrolvm.plots.study_figures import figure_title, shown_blocks, study_figures
from pyrolvm.plots.theme import NARROW, WIDE, ThemeName
from pyrolvm.report.page import Picture, data_uri, pixels, style
from pyrolvm.report.study_captions import alternative, caption, number_of_seeds
from pyrolvm.report.study_tables import study_tables
from pyrolvm.report.templates import render
from pyrolvm.report.text_table import TextTable
from pyrolvm.studies import Study, StudyResult
from pyrolvm.studies.frame import flattened

if TYPE_CHECKING:
    import pandas as pd

PAGE = "study.html"
CARDS_BELOW = 640
"""Width of a window, CSS pixels, up to which a row of a table is a card."""


def write_study(study: Study, result: StudyResult) -> tuple[Path, list[TextTable]]:
    """Write the page and the figures of a study beside its table.

    Args:
        study: What was asked.
        result: What came of it, so far.

    Returns:
        The path of the page, and its tables.
    """
    frame = with_all_columns(study, result.frame)
    per_datum = result.per_datum()
    light = study_figures(frame, study.figures, "light", width=WIDE, per_datum=per_datum)
    for name, figure in light.items():
        save(figure, result.folder / "figures", name)
    tables = study_tables(frame, study.figures, per_datum)
    write_text(result.folder / PAGE, _render(study, result, frame, light, tables))
    return result.folder / PAGE, tables


def with_all_columns(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """Add the settings that only cells have which are not finished, without values.

    A figure of such a setting then waits for its cells instead of being refused.
    """
    if frame.empty:
        return frame
    known = dict.fromkeys(key for cell in study.cells for key in flattened(cell.configuration))
    missing = [name for name in known if name not in frame.columns]
    return frame.assign(**dict.fromkeys(missing, float("nan")))


def _render(
    study: Study,
    result: StudyResult,
    frame: pd.DataFrame,
    light: Mapping[str, Figure],
    tables: Sequence[TextTable],
) -> str:
    return render(
        "study_page.html",
        style=style(CARDS_BELOW),
        title=study.name,
        description=study.description,
        facts=_facts(result),
        shown=list(zip(_pictures(study, result, frame, light), tables, strict=True)),
        notes=study.notes,
        tables=[*_failures(study, result), *_checks(result)],
    )


def _facts(result: StudyResult) -> list[tuple[str, str]]:
    frame = result.frame
    facts = [("cells", f"{len(frame)} finished, {len(result.failures)} failed")]
    if len(frame):
        methods = ", ".join(frame["evidence_method"].str.split(" ").str[0].unique())
        facts += [("seeds", str(number_of_seeds(frame))), ("log p(x) by", methods)]
    return facts


def _pictures(
    study: Study, result: StudyResult, frame: pd.DataFrame, light: Mapping[str, Figure]
) -> list[Picture]:
    wanted, per_datum = study.figures, result.per_datum()

    def drawn_in(theme: ThemeName, width: float) -> dict[str, Figure]:
        return study_figures(frame, wanted, theme, width=width, per_datum=per_datum)

    variants = {
        "light": light,
        "dark": drawn_in("dark", WIDE),
        "light_narrow": drawn_in("light", NARROW),
        "dark_narrow": drawn_in("dark", NARROW),
    }
    return [
        Picture(
            block["name"],
            figure_title(block),
            caption(block, rows),
            alternative(block),
            {variant: data_uri(drawn[block["name"]]) for variant, drawn in variants.items()},
            *pixels(light[block["name"]]),
        )
        for block, rows in shown_blocks(frame, wanted, per_datum)
    ]


def _failures(study: Study, result: StudyResult) -> list[TextTable]:
    """Cells that ended with an error."""
    if not result.failures:
        return []
    cells = {cell.key: cell.label for cell in study.cells}
    rows = tuple(
        (cells.get(key, key), error.strip().rsplit("\n", maxsplit=1)[-1])
        for key, error in result.failures.items()
    )
    return [TextTable("Cells that failed", ("cell", "error"), rows)]


def _checks(result: StudyResult) -> list[TextTable]:
    """Cells in which a check of the figures did not pass."""
    frame = result.frame
    if not len(frame):
        return []
    bad = frame[frame["checks_failed"] != ""]
    if bad.empty:
        return []
    rows = tuple((str(row["cell"]), str(row["checks_failed"])) for _, row in bad.iterrows())
    return [TextTable("Cells with a check that did not pass", ("cell", "check"), rows)]
