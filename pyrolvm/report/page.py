"""One self-contained page from a comparison tree: answer, table, pictures, provenance.

No network, no script: styles and figures lie inside the file. Every name that a user chose is
escaped, and figures come as images, inside of which nothing runs.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import xarray as xr
from markupsafe import Markup
from matplotlib.figure import Figure

from pyrolvm.core.files import write_text
from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.theme import DARK, LIGHT, NARROW, WIDE, guide_styles
from pyrolvm.report.answer import GuideName, answer
from pyrolvm.report.differences import nearest
from pyrolvm.report.sections import SECTIONS, figures
from pyrolvm.report.table import columns
from pyrolvm.report.templates import render as fill

__all__ = ["figures", "render", "write"]

DOTS_PER_INCH = 96
"""Of a CSS inch."""
CARDS_BELOW = 1200
"""Width of a window, CSS pixels, up to which a row of the table is a card."""


@dataclass(frozen=True)
class Picture:
    """A section of the page, ready to be written.

    Args:
        key: Name of the figure.
        title: The question that it answers.
        caption: How to read it.
        alternative: What it shows.
        sources: Data URI by ``"light"``, ``"dark"``, ``"light_narrow"``, ``"dark_narrow"``; the
            first is always there.
        width: Of the wide variant, CSS pixels.
        height: Of the wide variant, CSS pixels.
    """

    key: str
    title: str
    caption: str
    alternative: str
    sources: dict[str, str]
    width: int
    height: int


def render(tree: xr.DataTree, figures: Mapping[str, Figure] | None = None) -> str:
    """A comparison as one HTML page.

    Args:
        tree: A comparison. Sections whose groups are missing are left out.
        figures: Figures to show, by name, in place of those that the page draws itself (light and
            dark, for desktop and phone); a figure with a name that the page does not know gets
            that name as its title.

    Returns:
        The page: the same tree gives the same text.

    Raises:
        DataError: If the tree lacks the table of guides.
    """
    comparison = read_comparison(tree)
    pictures = _drawn(tree) if figures is None else _given(comparison, figures)
    numbers = {name: index for index, name in enumerate(comparison.names)}
    return fill(
        "page.html",
        is_guide=lambda part: isinstance(part, GuideName),
        style=style(CARDS_BELOW),
        colors=_colors(comparison),
        title=comparison.text("title") or "A comparison of guides",
        facts=_facts(comparison),
        answer=answer(tree),
        numbers=numbers,
        names=comparison.names,
        nearest=nearest(comparison, list(comparison.names)),
        columns=columns(tree),
        pictures=pictures,
        provenance=_provenance(comparison),
        versions=_versions(comparison),
        config=_config(comparison),
    )


def write(tree: xr.DataTree, path: str | Path) -> Path:
    """Write the page of a comparison; the file is whole or not there.

    Args:
        tree: A comparison.
        path: Of the HTML file; its folder is made if need be.

    Returns:
        The path.

    Raises:
        DataError: If the tree lacks the table of guides.
        RunFolderError: If the file cannot be written.
    """
    path = Path(path)
    write_text(path, render(tree))
    return path


def style(cards_below: int) -> Markup:
    """Styles of a page whose tables become cards in windows up to a width, CSS pixels."""
    folder = files("pyrolvm.report")
    sheet = folder.joinpath("page.css").read_text(encoding="utf-8")
    cards = folder.joinpath("cards.css").read_text(encoding="utf-8")
    return Markup(f"{sheet}@media screen and (max-width: {cards_below}px) {{\n{cards}}}\n")


def data_uri(figure: Figure) -> str:
    """Return a figure as the address of an image inside the page."""
    return "data:image/svg+xml;base64," + b64encode(image_bytes(figure, "svg")).decode("ascii")


def pixels(figure: Figure) -> tuple[int, int]:
    """Width and height of a figure, CSS pixels."""
    width, height = figure.get_size_inches()
    return round(width * DOTS_PER_INCH), round(height * DOTS_PER_INCH)


def _drawn(tree: xr.DataTree) -> list[Picture]:
    comparison = read_comparison(tree)
    wide = figures(tree, "light", width=WIDE)
    variants = {
        "light": wide,
        "dark": figures(tree, "dark", width=WIDE),
        "light_narrow": figures(tree, "light", width=NARROW),
        "dark_narrow": figures(tree, "dark", width=NARROW),
    }
    return [
        _picture(
            comparison,
            key,
            figure,
            {name: data_uri(drawn[key]) for name, drawn in variants.items()},
        )
        for key, figure in wide.items()
    ]


def _given(comparison: ComparisonView, given: Mapping[str, Figure]) -> list[Picture]:
    order = [section.key for section in SECTIONS if section.key in given]
    order += [key for key in given if key not in order]
    return [
        _picture(comparison, key, given[key], {"light": data_uri(given[key])}) for key in order
    ]


def _picture(
    comparison: ComparisonView, key: str, figure: Figure, sources: dict[str, str]
) -> Picture:
    known = {section.key: section for section in SECTIONS}
    width, height = pixels(figure)
    if key not in known:
        return Picture(key, key, "", key, sources, width, height)
    section = known[key]
    caption = section.caption(comparison)
    return Picture(key, section.title, caption, section.alternative, sources, width, height)


def _colors(comparison: ComparisonView) -> list[tuple[str, str]]:
    light, dark = guide_styles(comparison, LIGHT), guide_styles(comparison, DARK)
    return [(light[name].color, dark[name].color) for name in comparison.names]


def _facts(comparison: ComparisonView) -> list[tuple[str, str]]:
    evidence = comparison.text("evidence_method")
    if comparison.is_bound:
        evidence = f"{evidence}: a lower bound (≥)"
    pairs = [
        ("model", comparison.text("model")),
        ("scored on", comparison.text("scored") or comparison.text("data")),
        ("log p(x) by", evidence),
        ("made", comparison.text("created")),
    ]
    return [(name, text) for name, text in pairs if text]


def _provenance(comparison: ComparisonView) -> list[tuple[str, str]]:
    draws = "draws" if comparison.is_one_datum else "draws a datum"
    pairs = [
        ("data", comparison.text("data")),
        ("source", comparison.text("source_note")),
        ("scored", comparison.text("scored")),
        ("model", comparison.text("model")),
        ("seed", comparison.text("seed")),
        (draws, comparison.text("num_particles")),
        ("made", comparison.text("created")),
    ]
    return [(name, text) for name, text in pairs if text]


def _versions(comparison: ComparisonView) -> list[tuple[str, str]]:
    versions = _parsed(comparison.text("versions"))
    if not isinstance(versions, dict):
        return [("versions", comparison.text("versions"))] if comparison.text("versions") else []
    return [(str(name), str(version)) for name, version in versions.items()]


def _config(comparison: ComparisonView) -> str:
    text = comparison.text("config")
    config = _parsed(text)
    return text if config is None else json.dumps(config, indent=2, ensure_ascii=False)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
