"""Direct labels: beside the end of a line, and above a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from numpy.typing import NDArray

from pyrolvm.plots.theme import SMALL, Theme

POINTS = 72.0
"""Points an inch."""

LONGEST_NAME = 28
"""Characters of a name that a figure shows; the table has all of it."""


@dataclass(frozen=True)
class EndLabel:
    """A label for the right end of a line.

    Args:
        height: Where the line ends, in data coordinates.
        text: The label.
        color: Its colour.
    """

    height: float
    text: str
    color: str


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name that fits.

    Example:
        >>> shortened("amortized:full:128x128", 12)
        'amortized:f…'
    """
    return name if len(name) <= longest else name[: longest - 1] + "…"


def wrapped(name: str, longest: int) -> str:
    r"""A name on at most two lines, broken where its parts meet.

    Example:
        >>> wrapped("amortized:full:128x128", 15)
        'amortized:full:\n128x128'
    """
    if len(name) <= longest:
        return name
    ends = [at + 1 for at, letter in enumerate(name[:longest]) if letter in ":-_ ,("]
    end = ends[-1] if ends else longest
    return f"{name[:end]}\n{shortened(name[end:], longest)}"


def spread(positions: Sequence[float], distance: float) -> NDArray[np.float64]:
    """Move positions apart, as little as possible, until neighbours keep a distance.

    Args:
        positions: Where labels want to be.
        distance: Least distance between two of them.

    Returns:
        The new positions, in the order of the old ones: the least-squares solution (pooling of
        adjacent violators).

    Example:
        >>> spread([0.0, 0.0, 5.0], 1.0).tolist()
        [-0.5, 0.5, 5.0]
    """
    if not positions:
        return np.empty(0)
    order = np.argsort(positions, kind="stable")
    wanted = np.asarray(positions, dtype=np.float64)[order] - distance * np.arange(len(order))
    blocks: list[tuple[float, int]] = []
    for value in wanted:
        total, size = float(value), 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / size:
            earlier, count = blocks.pop()
            total, size = total + earlier, size + count
        blocks.append((total, size))
    pooled = np.concatenate([np.full(size, total / size) for total, size in blocks])
    result = np.empty(len(order))
    result[order] = pooled + distance * np.arange(len(order))
    return result


def room_for(labels: Sequence[EndLabel]) -> float:
    """Inches that the labels of :func:`label_ends` need to the right of the axes."""
    return 0.3 + 0.068 * max((len(label.text) for label in labels), default=0)


def label_ends(axes: Axes, labels: Sequence[EndLabel], height_inches: float) -> None:
    """Write labels beside the right end of lines, with thin leaders where they had to move.

    Args:
        axes: Axes whose limits are final.
        labels: One a line.
        height_inches: Height of the axes on the page.
    """
    onto = axes.transScale + axes.transLimits
    fractions = [float(np.clip(onto.transform((0, one.height))[1], 0, 1)) for one in labels]
    heights = spread(fractions, 1.35 * SMALL / POINTS / height_inches)
    heights -= max(0.0, heights.max(initial=0.0) - 1.0)
    for label, start, end in zip(labels, fractions, heights, strict=True):
        axes.plot(
            [1.0, 1.025],
            [start, end],
            transform=axes.transAxes,
            color=label.color,
            linewidth=0.7,
            clip_on=False,
        )
        axes.text(
            1.032,
            end,
            label.text,
            transform=axes.transAxes,
            color=label.color,
            fontsize=SMALL,
            va="center",
            ha="left",
        )


def label_row(axes: Axes, height: float, name: str, note: str, theme: Theme, color: str) -> Text:
    """Write a guide's name above its row, and a note at the right end of the same line.

    Args:
        axes: Axes with one row a guide.
        height: Data coordinate of the line of text.
        name: The guide.
        note: What is printed beside it; may be empty.
        theme: The look.
        color: Colour of the name.

    Returns:
        The name's text object.
    """
    place = axes.get_yaxis_transform()
    axes.text(
        1.0,
        height,
        note,
        transform=place,
        ha="right",
        va="center",
        color=theme.muted,
        fontsize=SMALL,
        bbox={"facecolor": theme.paper, "linewidth": 0, "pad": 1.0},
        zorder=6,
    )
    return axes.text(
        0.0,
        height,
        shortened(name),
        transform=place,
        ha="left",
        va="center",
        color=color,
        fontweight="bold",
    )
