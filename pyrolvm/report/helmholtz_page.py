"""The page of the study of belief networks: what coupling model and guide buys."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pyrolvm.core.files import write_text
from pyrolvm.inference.helmholtz import HelmholtzStudy
from pyrolvm.plots.helmholtz import (
    ess_against_likelihood,
    likelihood_by_depth,
    overlap_by_objective,
    validation_curves,
)
from pyrolvm.plots.helmholtz_pictures import completed_images, draws_side_by_side
from pyrolvm.plots.saving import save
from pyrolvm.plots.theme import WIDE
from pyrolvm.report.four_looks import picture
from pyrolvm.report.helmholtz_tables import cell_table, likelihood_table
from pyrolvm.report.helmholtz_words import caveats, findings, headline
from pyrolvm.report.page import Picture, style
from pyrolvm.report.templates import render

PAGE = "helmholtz.html"
CARDS_BELOW = 1100
"""Width of a window, CSS pixels, up to which a row of a table is a card."""


@dataclass(frozen=True)
class Section:
    """A figure of the page.

    Args:
        key: Its name.
        title: The question that it answers.
        caption: How to read it.
        alternative: What it shows, for those who do not see it.
        draw: Draws it for a theme and a width.
    """

    key: str
    title: str
    caption: str
    alternative: str
    draw: Callable[..., Figure]


def write_helmholtz(study: HelmholtzStudy, path: str | Path | None = None) -> Path:
    """Write the page of a study, and its figures beside it.

    Args:
        study: From :func:`pyrolvm.inference.helmholtz.run_helmholtz`.
        path: Of the HTML file; ``helmholtz.html`` in the study's folder where it is None.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: If a file cannot be written.
    """
    path = study.folder / PAGE if path is None else Path(path)
    sections = helmholtz_sections(study)
    for section in sections:
        save(section.draw("light", width=WIDE), path.parent / "figures", section.key)
    write_text(path, _render(study, sections))
    return path


def helmholtz_sections(study: HelmholtzStudy) -> list[Section]:
    """The figures that a study has the numbers for, in the order of its page."""
    frame = study.frame
    sections = [
        Section(
            "ess_against_likelihood",
            "Does a better guide cost likelihood?",
            "A point is a training. To the left: a better model. Up: a guide closer to its own "
            "posterior, so that more of its draws count. Bars are one standard error over test "
            "rows; most of it is common to all points of a panel.",
            "Effective share of draws against negative log likelihood, a panel for each data set.",
            functools.partial(ess_against_likelihood, frame),
        ),
        Section(
            "overlap_by_objective",
            "How far do guide and posterior overlap?",
            "Squared Bhattacharyya coefficient, mean over test rows: 1 is the exact posterior, 0 "
            "a guide that never meets it. Bars are one standard error over test rows.",
            "Overlap of guide and posterior for each objective, a panel for each data set.",
            functools.partial(overlap_by_objective, frame),
        ),
    ]
    if frame["in_sweep"].any():
        sections.append(
            Section(
                "likelihood_by_depth",
                "How many layers does each objective make use of?",
                "Widths run in equal ratios from the lowest to the highest layer of the data "
                "set's default. Lower is better; bars are one standard error over test rows, most "
                "of which is common to all points of a panel.",
                "Negative log likelihood against the number of layers, a line for each objective.",
                functools.partial(likelihood_by_depth, frame),
            )
        )
    sections.append(
        Section(
            "validation_curves",
            "Had training ended?",
            "Bound on −log p(x) of validation rows from a few draws: it is looser than the "
            "figures of the table, more so for a poor guide. The first steps lie above the axis.",
            "Bound on negative log likelihood by training step, a line for each training.",
            functools.partial(validation_curves, frame, study.curves),
        )
    )
    return sections + _image_sections(study)


def _image_sections(study: HelmholtzStudy) -> list[Section]:
    sections = []
    for data, images in study.pictures.items():
        shape = study.facts[data]["image_shape"]
        name = "".join(letter if letter.isalnum() else "_" for letter in data)
        sections += [
            Section(
                f"draws_{name}",
                f"{data}: what do p and p* draw?",
                "p is the top-down model alone, p* what model and guide draw together, by a Gibbs "
                "sampler; both from the coupled training.",
                f"Draws of p beside draws of p* for {data}.",
                functools.partial(draws_side_by_side, images, shape),
            ),
            Section(
                f"completed_{name}",
                f"{data}: what fills the hidden half?",
                "The shaded half of a test image is hidden; each further row is a draw of p* "
                "given the other half. Where rows differ, that half leaves it open.",
                f"Test images of {data}, half of them hidden, and three completions of each.",
                functools.partial(completed_images, images, shape),
            ),
        ]
    return sections


def _render(study: HelmholtzStudy, sections: Sequence[Section]) -> str:
    return render(
        "helmholtz_page.html",
        style=style(CARDS_BELOW),
        title="What does coupling a belief network to its guide buy?",
        headline=headline(study),
        facts=_facts(study),
        findings=findings(study),
        caveats=caveats(study),
        likelihoods=likelihood_table(study),
        pictures=[_picture(section) for section in sections],
        cells=cell_table(study),
        sources=[(name, facts["source"]) for name, facts in study.facts.items()],
    )


def _picture(section: Section) -> Picture:
    return picture(
        section.key,
        section.title,
        section.caption,
        section.alternative,
        lambda theme, width: section.draw(theme, width=width),
    )


def _facts(study: HelmholtzStudy) -> list[tuple[str, str]]:
    frame, seeds = study.frame, study.frame["seed"].nunique()
    facts = [
        ("cells", f"{len(frame)}, {'one seed' if seeds == 1 else f'{seeds} seeds'}"),
        ("draws", f"{int(frame['particles'].max()):,} for each test row"),
    ]
    return facts + [
        (
            name,
            f"{about['num_train']:,} training, {about['num_valid']:,} validation, "
            f"{about['num_test']:,} test rows of {about['dim']}",
        )
        for name, about in study.facts.items()
    ]
