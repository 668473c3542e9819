"""The page of a study: its question, its figures, how to read them, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pyrolvm.core.files import write_text
from pyrolvm.plots.saving import save
from pyrolvm.plots.study_figures import study_figures
from pyrolvm.plots.theme import NARROW, WIDE
from pyrolvm.report.page import Picture, data_uri, pixels
from pyrolvm.report.study_tables import TextTable, study_tables
from pyrolvm.studies import Study, StudyResult

PAGE = "study.html"


def write_study(study: Study, result: StudyResult) -> tuple[Path, list[TextTable]]:
    """Write the page and the figures of a study beside its table.

    Args:
        study: What was asked.
        result: What came of it, so far.

    Returns:
        The path of the page, and its tables.
    """
    for name, figure in study_figures(result.frame, study.figures).items():
        save(figure, result.folder / "figures", name)
    tables = study_tables(result.frame, study.figures)
    write_text(result.folder / PAGE, _render(study, result, tables))
    return result.folder / PAGE, tables


def _render(study: Study, result: StudyResult, tables: Sequence[TextTable]) -> str:
    folder = files("pyrolvm.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        folder.joinpath("study_page.html").read_text(encoding="utf-8")
    )
    return template.render(
        style=Markup(folder.joinpath("page.css").read_text(encoding="utf-8")),
        title=study.name,
        description=study.description,
        facts=_facts(result),
        pictures=_pictures(result, study.figures),
        notes=study.notes,
        tables=[*tables, *_checks(result)],
    )


def _facts(result: StudyResult) -> list[tuple[str, str]]:
    frame = result.frame
    facts = [("cells", f"{len(frame)} finished, {len(result.failures)} failed")]
    if len(frame):
        methods = ", ".join(frame["evidence_method"].str.split(" ").str[0].unique())
        facts += [("seeds", str(frame["seed"].nunique())), ("log p(x) by", methods)]
    return facts


def _pictures(result: StudyResult, wanted: Sequence[Mapping[str, Any]]) -> list[Picture]:
    frame = result.frame
    light = study_figures(frame, wanted, "light", width=WIDE)
    variants = {
        "light": light,
        "dark": study_figures(frame, wanted, "dark", width=WIDE),
        "light_narrow": study_figures(frame, wanted, "light", width=NARROW),
        "dark_narrow": study_figures(frame, wanted, "dark", width=NARROW),
    }
    titles = {block["name"]: block.get("title", block["name"]) for block in wanted}
    return [
        Picture(
            name,
            titles[name].replace("_", " "),
            "Means over seeds with one standard error.",
            titles[name],
            {variant: data_uri(drawn[name]) for variant, drawn in variants.items()},
            *pixels(figure),
        )
        for name, figure in light.items()
    ]


def _checks(result: StudyResult) -> list[TextTable]:
    """Cells in which a check of the figures did not pass."""
    frame = result.frame
    if not len(frame):
        return []
    bad = frame[frame["checks_failed"] != ""]
    rows = tuple((str(row["cell"]), str(row["checks_failed"])) for _, row in bad.iterrows())
    return (
        [TextTable("Cells with a check that did not pass", ("cell", "check"), rows)]
        if rows
        else []
    )
