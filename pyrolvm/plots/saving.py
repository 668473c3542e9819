"""Figures to bytes and to files: the same figure always gives the same bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from pyrolvm.core.files import atomic
from pyrolvm.plots.theme import figure_style

DOTS_PER_INCH = 150


def image_bytes(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    """A figure as the content of a file.

    Args:
        figure: The figure.
        kind: File format.

    Returns:
        The bytes; no date or random identifier is among them.
    """
    buffer = BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with figure_style():
        figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()


def save(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write a figure as PNG (150 dots an inch) and as SVG.

    Args:
        figure: The figure.
        folder: Where; made if need be.
        name: File name without its ending.

    Returns:
        The paths of the two files.

    Raises:
        RunFolderError: If a file cannot be written.
    """
    png, svg = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    with atomic(png) as temporary:
        temporary.write_bytes(image_bytes(figure, "png"))
    with atomic(svg) as temporary:
        temporary.write_bytes(image_bytes(figure, "svg"))
    return png, svg
