"""The page of a rate plane: which region of it serves which task, with figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pyrolvm.core.files import write_text
from pyrolvm.inference.rate_plane import LinearPlane, RatePlane, mean_over_seeds
from pyrolvm.plots.linear_rate_plane import linear_rate_plane
from pyrolvm.plots.quantities import fixed
from pyrolvm.plots.rate_plane import rate_plane, task_maps
from pyrolvm.plots.rate_plane_tasks import fano_curve, quality_against_rates
from pyrolvm.plots.saving import save
from pyrolvm.plots.theme import WIDE, ThemeName
from pyrolvm.report.four_looks import picture
from pyrolvm.report.page import Picture, style
from pyrolvm.report.rate_plane_words import caveats, findings, headline, task_rows
from pyrolvm.report.templates import render
from pyrolvm.report.text_table import TextTable

PAGE = "rate-plane.html"
CARDS_BELOW = 760
"""Width of a window, CSS pixels, up to which a row of a table is a card."""
MODEL_COLUMNS = {
    "rate_1": ("R₁", 2), "rate_2": ("R₂", 3), "distortion": ("D", 1),
    "negative_elbo": ("−ELBO", 1), "psnr": ("PSNR, dB", 2), "accuracy_drawn": ("acc., draw", 3),
    "fano_bound": ("bound", 3), "accuracy_mean": ("acc., mean", 3), "score": ("score", 2),
    "diversity": ("diversity", 2), "sharpness": ("sharpness", 3), "excess_2": ("excess of R₂", 2),
}  # fmt: skip
"""Columns of the table of all models: what they are called, and their decimals."""


@dataclass(frozen=True)
class Section:
    """A figure of the page.

    Args:
        key: Its name.
        title: The question that it answers.
        caption: How to read it.
        alternative: What it shows, for those who do not see it.
        draw: Draws it.
    """

    key: str
    title: str
    caption: str
    alternative: str
    draw: Callable[[ThemeName, float], Figure]


def write_rate_plane(
    plane: RatePlane, path: str | Path | None = None, linear: LinearPlane | None = None
) -> Path:
    """Write the page of a rate plane, and its figures beside it.

    Args:
        plane: From :func:`pyrolvm.inference.rate_plane.run_rate_plane`.
        path: Of the HTML file; ``rate-plane.html`` in the plane's folder where it is None.
        linear: A closed-form plane to show below, from
            :func:`pyrolvm.inference.rate_plane.linear_rate_plane`.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: If a file cannot be written.
    """
    path = plane.folder / PAGE if path is None else Path(path)
    sections = rate_plane_sections(plane, linear)
    for section in sections:
        save(section.draw("light", WIDE), path.parent / "figures", section.key)
    write_text(path, _render(plane, sections))
    return path


def rate_plane_sections(plane: RatePlane, linear: LinearPlane | None) -> list[Section]:
    """The figures of the page, in its order."""
    frame, facts = plane.frame, plane.facts
    classes, entropy = facts["num_classes"], facts["label_entropy"]
    sections = [
        Section(
            "rate_plane",
            "Where do the models lie, and which one is best at what?",
            "A point is a trained model. Marker: weight β₁ of the rate of z₁; colour: weight β₂ "
            "of that of z₂. Lines join means over seeds with one β₂. Rings: optima of tasks.",
            "Trained models in the plane of the rates of both layers, optima of tasks ringed.",
            lambda theme, width: rate_plane(frame, theme, width=width),
        ),
        Section(
            "task_maps",
            "Which weights serve which task?",
            "Means over seeds. Thick frame: the best pair of weights. Thin frames: pairs that two "
            "standard errors do not tell from it.",
            "One map over both weights for each task, with the best cell framed.",
            lambda theme, width: task_maps(frame, theme, width=width),
        ),
        Section(
            "fano_curve",
            "How well can classes be read from z₂?",
            "Probes are trained on codes of training rows and tested on held-out ones. Those that "
            "see a draw of z₂ are bounded by its rate (bars: one standard error); those that see "
            "its mean are not. The axis is linear up to 0.1 nats and logarithmic above.",
            "Accuracy of probes against the rate of the top layer, with Fano's bound as a curve.",
            lambda theme, width: fano_curve(frame, classes, entropy, theme, width=width),
        ),
        Section(
            "quality_against_rates",
            "What do rates buy?",
            "A point is a trained model. Above: reconstruction against the total rate, and what "
            "the rate of z₂ exceeds its information by. Below: samples of the model as the "
            "classifier sees them; score = diversity × sharpness.",
            "PSNR, distortion, excess rate, score, diversity and sharpness against rates.",
            lambda theme, width: quality_against_rates(frame, theme, width=width),
        ),
    ]
    return sections if linear is None else [*sections, _linear_section(linear)]


def _linear_section(linear: LinearPlane) -> Section:
    return Section(
        "linear_rate_plane",
        "What does the exact plane of a linear Gaussian hierarchy look like?",
        f"{len(linear.frame)} best guides in closed form, the model fixed. Lines of one weight "
        "cross in the plane of rates; equal weights are only a curve through it. No guide has a "
        "distortion below h(X) − R₁ − R₂, and the one with weights of 1 reaches that. Raising β₂ "
        "moves information from z₂ to z₁.",
        "Contours of both rates and of the distortion, the plane of rates, and its bound.",
        lambda theme, width: linear_rate_plane(linear, theme, width=width),
    )


def _render(plane: RatePlane, sections: Sequence[Section]) -> str:
    return render(
        "rate_plane_page.html",
        style=style(CARDS_BELOW),
        title=f"{plane.facts['data']}: which region of rate space serves which task?",
        headline=headline(plane.optima),
        facts=_facts(plane),
        findings=findings(plane),
        caveats=caveats(plane),
        tasks=task_table(plane),
        pictures=[_picture(section) for section in sections],
        models=_model_table(plane),
        source=plane.facts["source"],
    )


def _picture(section: Section) -> Picture:
    return picture(section.key, section.title, section.caption, section.alternative, section.draw)


def _facts(plane: RatePlane) -> list[tuple[str, str]]:
    facts = plane.facts
    bottom, top = facts["latent_dims"]
    return [
        ("models", f"{len(plane.frame)}, {plane.frame['seed'].nunique()} seeds"),
        ("layers", f"z₁ of {bottom}, z₂ of {top} dimensions, {facts['network']}"),
        ("training", f"{facts['num_train']:,} rows, {facts['steps']:,} steps"),
        ("measured on", f"{facts['num_test']:,} held-out rows"),
    ]


def task_table(plane: RatePlane) -> TextTable:
    """The table of tasks, for page and terminal."""
    headers = ("task", "what limits it", "where to go", "best (β₁, β₂)", "R₁ + R₂, nats", "value",
               "as good")  # fmt: skip
    return TextTable("Which region for which task", headers, task_rows(plane.optima), 3)


def _model_table(plane: RatePlane) -> TextTable:
    means = mean_over_seeds(plane.frame)
    rows = tuple(
        (
            *(f"{row[name]:.3g}" for name in ("weight_1", "weight_2")),
            *(fixed(float(row[name]), places) for name, (_, places) in MODEL_COLUMNS.items()),
        )
        for _, row in means.iterrows()
    )
    headers = ("β₁", "β₂", *(label for label, _ in MODEL_COLUMNS.values()))
    title = "All pairs of weights: means over seeds; rates, D and −ELBO in nats a datum"
    return TextTable(title, headers, rows, 2)
