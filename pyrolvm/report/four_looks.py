"""One figure in the four looks of a page: light and dark, for desktops and for phones."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from pyrolvm.plots.theme import NARROW, WIDE, ThemeName
from pyrolvm.report.page import Picture, data_uri, pixels

LOOKS: tuple[tuple[str, ThemeName, float], ...] = (
    ("light", "light", WIDE),
    ("dark", "dark", WIDE),
    ("light_narrow", "light", NARROW),
    ("dark_narrow", "dark", NARROW),
)


def picture(
    key: str,
    title: str,
    caption: str,
    alternative: str,
    draw: Callable[[ThemeName, float], Figure],
) -> Picture:
    """Draw a figure in all looks, embedded.

    Args:
        key: Its name.
        title: The question that it answers.
        caption: How to read it.
        alternative: What it shows, for those who do not see it.
        draw: Draws it for a theme and a width in inches.
    """
    drawn = {name: draw(theme, width) for name, theme, width in LOOKS}
    sources = {name: data_uri(figure) for name, figure in drawn.items()}
    return Picture(key, title, caption, alternative, sources, *pixels(drawn["light"]))
