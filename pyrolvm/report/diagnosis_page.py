"""One self-contained page of a diagnosis: verdict, pictures, numbers, what to try, provenance.

It is made from the tree alone. No network, no script: styles and figures lie inside the file.
Every name that a user chose is escaped, and figures come as images, inside of which nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import xarray as xr

from pyrolvm.core.errors import DataError
from pyrolvm.core.files import write_text
from pyrolvm.diagnostics.diagnosis_tree import read_findings
from pyrolvm.diagnostics.finding import Finding, Level
from pyrolvm.diagnostics.verdict import Verdict, judge
from pyrolvm.plots.theme import ThemeName
from pyrolvm.report.diagnosis_provenance import configuration, facts, provenance, versions
from pyrolvm.report.diagnosis_sections import SECTIONS, Section
from pyrolvm.report.diagnosis_tables import blocks, worst_data
from pyrolvm.report.diagnosis_words import MARKS, SEALS, headline, measured
from pyrolvm.report.four_looks import picture
from pyrolvm.report.page import Picture, style
from pyrolvm.report.templates import render as fill

TITLE = "Can this fit be trusted?"
NOTEBOOK_COLORS: dict[Level, str] = {"good": "#0a8a6d", "care": "#a87400", "bad": "#d0382f"}
"""Legible on white and on dark notebooks."""
HALF = 480
"""CSS pixels below which a picture takes half of the page's width."""
CARDS_BELOW = 820
"""Width of a window, CSS pixels, up to which a row of a table is a card."""


def render(tree: xr.DataTree) -> str:
    """A diagnosis as one HTML page.

    Args:
        tree: Of a diagnosis. Pictures whose groups are missing are left out.

    Returns:
        The page: the same tree gives the same text.

    Raises:
        DataError: If the tree lacks the findings.
    """
    findings = _findings(tree)
    verdict = judge(findings)
    level = SEALS[verdict.answer]
    pictures = list(_pictures(tree))
    return fill(
        "diagnosis_page.html",
        style=style(CARDS_BELOW),
        title=str(tree.attrs.get("title") or TITLE),
        facts=facts(tree),
        verdict=verdict,
        level=level,
        seal=MARKS[level][0],
        headline=headline(verdict, findings),
        measured=measured(findings),
        reasons=_reasons(verdict, findings),
        blocks=blocks(findings),
        marks=MARKS,
        worst=worst_data(tree),
        pictures=pictures,
        beside=_beside_each_other(pictures),
        provenance=provenance(tree),
        versions=versions(tree),
        config=configuration(tree),
    )


def notebook(tree: xr.DataTree) -> str:
    """The verdict with its reasons as a piece of HTML, for a cell of a notebook.

    Args:
        tree: Of a diagnosis.

    Raises:
        DataError: If the tree lacks the findings.
    """
    findings = _findings(tree)
    verdict = judge(findings)
    level = SEALS[verdict.answer]
    return fill(
        "diagnosis_notebook.html",
        **{name: str(tree.attrs.get(name, "")) for name in ("guide", "model", "scored")},
        answer=verdict.answer,
        seal=MARKS[level][0],
        color=NOTEBOOK_COLORS[level],
        headline=headline(verdict, findings),
        reasons=[(mark, word, text) for _, mark, word, text in _reasons(verdict, findings)],
        advice=verdict.advice,
    )


def write(tree: xr.DataTree, path: str | Path) -> Path:
    """Write the page of a diagnosis; the file is whole or not there.

    Args:
        tree: Of a diagnosis.
        path: Of the HTML file; its folder is made if need be.

    Returns:
        The path.

    Raises:
        DataError: If the tree lacks the findings.
        RunFolderError: If the file cannot be written.
    """
    path = Path(path)
    write_text(path, render(tree))
    return path


def _findings(tree: xr.DataTree) -> tuple[Finding, ...]:
    if "findings" not in tree.children:
        raise DataError(
            "The page of a diagnosis needs the group /findings, but this tree has "
            f"{', '.join(f'/{name}' for name in tree.children) or 'no groups at all'}. "
            "Pass what `diagnose(...).to_datatree()` returned, or what it saved."
        )
    return read_findings(tree)


def _reasons(verdict: Verdict, findings: tuple[Finding, ...]) -> list[tuple[Level, str, str, str]]:
    """Level, sign, word and sentence of each reason."""
    levels = {finding.sentence: finding.level for finding in reversed(findings)}
    return [(levels[text], *MARKS[levels[text]], text) for text in verdict.reasons]


def _pictures(tree: xr.DataTree) -> Iterator[Picture]:
    for section in SECTIONS:
        try:
            yield _picture(tree, section)
        except DataError:
            continue


def _beside_each_other(pictures: list[Picture]) -> set[str]:
    """Keys of pictures so narrow that two in a row share a line."""
    found: set[str] = set()
    for first, second in pairwise(pictures):
        if first.key not in found and max(first.width, second.width) < HALF:
            found |= {first.key, second.key}
    return found


def _picture(tree: xr.DataTree, section: Section) -> Picture:
    def draw(theme: ThemeName, width: float):  # type: ignore[no-untyped-def]
        return section.draw(tree, theme, width=width)

    return picture(section.key, section.title, section.caption, section.alternative, draw)
