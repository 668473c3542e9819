"""Two looks, light and dark, and one colour, dash and marker for each guide.

The colours keep their distance under the common colour-vision deficiencies and stand at least 3:1
off the paper; dashes and direct labels carry the same information in grey. The exact guide is
drawn in ink: it is the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.plots.comparison import ComparisonView

ThemeName = Literal["light", "dark"]

Dash = str | tuple[int, tuple[float, ...]]

DASHES: tuple[Dash, ...] = (
    "solid",
    (0, (5.0, 1.4)),
    (0, (1.2, 1.2)),
    (0, (5.0, 1.2, 1.2, 1.2)),
    (0, (2.6, 1.2)),
    (0, (7.0, 1.2, 1.2, 1.2, 1.2, 1.2)),
)

WIDE = 9.6
"""Width of a figure on a desktop or on paper, inches."""

NARROW = 3.75
"""Width of a figure on a phone, inches."""

SMALL = 8.0
"""Font size of what is read second, points."""


@dataclass(frozen=True)
class Theme:
    """The colours of one look.

    Args:
        name: ``"light"`` or ``"dark"``.
        paper: Background.
        ink: Text and the exact guide.
        muted: Text and marks that are read second.
        faint: Grid lines and frames.
        bands: Shades of the exact posterior, from its outermost band to its innermost.
        palette: Colours of the guides, in turn.
        image_colormap: Colour map of grey images.
        strip_colormap: Colour map of data that are no images.
    """

    name: str
    paper: str
    ink: str
    muted: str
    faint: str
    bands: tuple[str, str, str]
    palette: tuple[str, ...]
    image_colormap: str
    strip_colormap: str


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1b1f24",
    muted="#5d6670",
    faint="#dfe3e8",
    bands=("#e6eaef", "#c6ced8", "#98a5b4"),
    palette=(
        "#0072b2",
        "#d55e00",
        "#00876a",
        "#b04a94",
        "#a87400",
        "#3a93cf",
        "#8a5a44",
        "#7a7f00",
    ),
    image_colormap="gray_r",
    strip_colormap="cividis",
)

DARK = Theme(
    name="dark",
    paper="#15191f",
    ink="#eef1f5",
    muted="#a3adb8",
    faint="#343c46",
    bands=("#262e38", "#3c4755", "#677688"),
    palette=(
        "#5ab4f5",
        "#ff8b4d",
        "#3fcfa6",
        "#e492cb",
        "#efc04c",
        "#a5d8ff",
        "#cfa491",
        "#c9ce4e",
    ),
    image_colormap="gray",
    strip_colormap="cividis",
)

THEMES = {"light": LIGHT, "dark": DARK}


@dataclass(frozen=True)
class GuideStyle:
    """How one guide looks in every figure.

    Args:
        color: Hexadecimal colour.
        dash: Line style.
    """

    color: str
    dash: Dash


def theme_named(name: str) -> Theme:
    """Look a theme up.

    Args:
        name: ``"light"`` or ``"dark"``.

    Returns:
        The theme.

    Raises:
        UnknownNameError: If there is no such theme.
    """
    if name not in THEMES:
        raise UnknownNameError("theme", name, THEMES)
    return THEMES[name]


def guide_styles(comparison: ComparisonView, theme: Theme) -> dict[str, GuideStyle]:
    """One style a guide, the same in every figure of a comparison.

    Args:
        comparison: The guides, in the order of the table.
        theme: The look.

    Returns:
        Style by guide; exact guides are drawn in ink, the others take colours in turn.
    """
    others = [name for name in comparison.names if not comparison.is_exact(name)]
    palette = _palette(len(others), theme)
    styles = {name: GuideStyle(theme.ink, "solid") for name in comparison.names}
    for index, name in enumerate(others):
        styles[name] = GuideStyle(palette[index], DASHES[index % len(DASHES)])
    return styles


def _palette(size: int, theme: Theme) -> tuple[str, ...]:
    if size <= len(theme.palette):
        return theme.palette
    import seaborn

    lightness = 0.5 if theme is LIGHT else 0.75
    return tuple(to_hex(color) for color in seaborn.husl_palette(size, l=lightness))


def mix(color: str, other: str, weight: float) -> str:
    """The colour that lies a share ``weight`` of the way from one to another.

    Example:
        >>> mix("#000000", "#ffffff", 0.5)
        '#808080'
    """
    pairs = zip(to_rgb(color), to_rgb(other), strict=True)
    red, green, blue = ((1 - weight) * one + weight * two for one, two in pairs)
    return to_hex((red, green, blue))


@contextmanager
def figure_style(theme: Theme | None = None) -> Iterator[None]:
    """Matplotlib's own defaults, plus a theme, inside the block only.

    Names are shown as they are (no mathematics between dollar signs), and what a user has set for
    other figures has no influence here.

    Args:
        theme: The look; None for what does not depend on it, such as saving.
    """
    settings: dict[Any, Any] = {
        "font.size": 9.5,
        "axes.titlesize": 9.5,
        "axes.labelsize": 9.5,
        "legend.fontsize": SMALL + 0.5,
        "text.parse_math": False,
        "svg.hashsalt": "pyrolvm",
        "svg.fonttype": "path",
    }
    if theme is not None:
        settings |= {
            "figure.facecolor": theme.paper,
            "axes.facecolor": theme.paper,
            "text.color": theme.ink,
            "axes.labelcolor": theme.muted,
            "axes.edgecolor": theme.faint,
            "axes.titlecolor": theme.ink,
            "xtick.color": theme.muted,
            "ytick.color": theme.muted,
            "legend.labelcolor": theme.ink,
            "legend.frameon": False,
        }
    with matplotlib.style.context(settings, after_reset=True):
        yield


def dress(axes: Axes, theme: Theme, *, grid: Literal["x", "y"] | None = None) -> None:
    """Take away what carries no information, and fix the colours of ticks that are made later.

    Args:
        axes: Axes made inside :func:`figure_style`.
        theme: The look.
        grid: Along which axis faint grid lines help to read values.
    """
    axes.tick_params(
        colors=theme.muted, labelcolor=theme.muted, labelsize=SMALL, length=2.5, width=0.7
    )
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(mix(theme.faint, theme.muted, 0.35))
    if grid is not None:
        axes.grid(axis=grid, color=theme.faint, linewidth=0.7)
        axes.set_axisbelow(True)
