"""Where the panels of the posterior figure lie: rows are data if there is room, else guides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_PANEL = 1.15
"""Inches; with less room than this the figure is turned."""

MOST_PICTURES = 6


@dataclass(frozen=True)
class Plan:
    """The panels of one figure, in inches.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        cell: Side of a panel.
        left: Left edge of the first panel.
        top: Top edge of the first panel.
        gap: Between columns, and between rows.
        is_turned: Whether rows are guides and columns data.
    """

    rows: int
    columns: int
    cell: float
    left: float
    top: float
    gap: tuple[float, float]
    is_turned: bool

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure."""
        return (
            self.left + self.columns * (self.cell + self.gap[0]) - self.gap[0] + 0.08,
            self.top + self.rows * (self.cell + self.gap[1]) - self.gap[1] + 0.5,
        )

    def place(self, guide: int, picture: int) -> tuple[float, float, float, float]:
        """Left, top, width and height of the panel of a guide and a datum, by their numbers."""
        row, column = (guide, picture) if self.is_turned else (picture, guide)
        return (
            self.left + column * (self.cell + self.gap[0]),
            self.top + row * (self.cell + self.gap[1]),
            self.cell,
            self.cell,
        )


def letters(inches: float) -> int:
    """How many letters of a bold name fit into a width."""
    return max(6, int(inches / 0.085))


def plan_panels(names: Sequence[str], pictures: int, width: float, has_images: bool) -> Plan:
    """Lay panels out.

    Args:
        names: The guides.
        pictures: Data that there are pictures of.
        width: Of the figure, inches.
        has_images: Whether the datum itself is shown as an image.

    Returns:
        The plan.
    """
    guides = len(names)
    left = 1.25 if has_images else 0.85
    count = min(pictures, MOST_PICTURES)
    cell = (width - left - 0.08) / guides - 0.1
    if cell >= SMALLEST_PANEL:
        cell = min(cell, 2.0)
        top = 0.46 if any(len(name) > letters(cell) for name in names) else 0.3
        return Plan(count, guides, cell, left, top, (0.1, 0.3), is_turned=False)
    count = min(count, max(1, int((width - 0.15) / 1.15)))
    cell = min((width - 0.17) / count - 0.36, 1.6)
    top = (min(cell * 0.5, 0.62) + 0.62) if has_images else 0.55
    return Plan(guides, count, cell, 0.45, top, (0.36, 0.34), is_turned=True)
