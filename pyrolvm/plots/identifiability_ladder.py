"""The ladder of indeterminacies: agreement of the codes of several runs, by class of model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pyrolvm.core.errors import DataError
from pyrolvm.plots.small_multiples import MARKERS, draw_legend, legend_rows
from pyrolvm.plots.theme import WIDE, Theme, ThemeName, dress, figure_style, theme_named

if TYPE_CHECKING:
    import pandas as pd

WORDS = {
    "raw_r2": "raw R²\nno alignment",
    "signed_correlation": "correlation\nwith its sign",
    "sign_r2": "R² after\nsign flips",
    "mcc": "MCC\norder, sign, scale",
    "mcc_spearman": "MCC of ranks\n+ monotone maps",
    "orthogonal_r2": "R² after\na rotation",
    "affine_r2": "R² after\nan affine map",
    "nonlinear_r2": "R² after\nany smooth map",
    "euclidean_distances": "distances\nof codes, R²",
    "pullback_distances": "distances on\nthe surface, R²",
}
COLUMNS = ("run_a", "run_b", "metric", "value", "low", "high", "used")
FLOOR = -1.0
"""Agreement below which a figure stands at the edge."""
ROW, FRAME = 0.62, 1.0
"""Heights of a rung and of legend and axis, inches."""
HALF = 0.5
"""Share of the full width up to which the label of the axis takes two lines."""
SPREAD = 0.3
"""Half the height, in rungs, over which models are spread."""


def identifiability_ladder(
    frames: Mapping[str, pd.DataFrame], theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Draw every pair of used runs on every rung, with its bootstrap interval, and the median.

    The lower a rung stands at which a model's runs agree, the less they had to be aligned. Figures
    below −1 stand at the left edge as triangles.

    Args:
        frames: ``compare_runs(...).frame`` by a name for the legend.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure: rungs from no alignment (bottom) to any smooth map, then distances.

    Raises:
        DataError: If there is no frame, one that ``compare_runs`` did not make, or one without a
            pair of used runs.
    """
    pairs = {name: _used_pairs(name, frame) for name, frame in frames.items()}
    if not pairs:
        raise DataError("identifiability_ladder needs at least one frame, by a name for it.")
    rungs = [m for m in WORDS if any((frame["metric"] == m).any() for frame in pairs.values())]
    look = theme_named(theme)
    with figure_style(look):
        figure = Figure(figsize=(width, FRAME + ROW * len(rungs)), layout="constrained")
        axes = figure.add_subplot()
        offsets = SPREAD * np.linspace(1, -1, len(pairs)) if len(pairs) > 1 else [0.0]
        for index, (frame, offset) in enumerate(zip(pairs.values(), offsets, strict=True)):
            _draw_model(axes, index, frame, rungs, float(offset), look)
        _finish(axes, rungs, look, width)
        handles = _legend(list(pairs), look)
        draw_legend(figure, handles, legend_rows(handles, width))
    return figure


def _used_pairs(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise DataError(
            f"identifiability_ladder draws compare_runs(...).frame, but {name!r} lacks "
            f"{', '.join(missing)}."
        )
    kept = frame[frame["used"] & (frame["run_a"] != "truth")]
    if not len(kept):
        raise DataError(f"{name!r} has no pair of runs that count. Raise slack, or train more.")
    return kept


def _draw_model(
    axes: Axes, index: int, frame: pd.DataFrame, rungs: Sequence[str], offset: float, look: Theme
) -> None:
    """Draw the pairs of one model: an interval and a dot each, and a large mark at the median."""
    color, marker = look.palette[index % len(look.palette)], MARKERS[index % len(MARKERS)]
    for height, metric in enumerate(rungs):
        part = frame[frame["metric"] == metric]
        if not len(part):
            continue
        place = height + offset
        values = part["value"].to_numpy(dtype=float)
        ends = part[["low", "high"]].to_numpy(dtype=float).clip(min=FLOOR)
        axes.hlines([place] * len(part), ends[:, 0], ends[:, 1], color=color, alpha=0.3)
        inside = values >= FLOOR
        axes.plot(values[inside], [place] * inside.sum(), ".", color=color, markersize=4)
        if not inside.all():
            axes.plot(FLOOR, place, "<", color=color, markersize=5, clip_on=False)
        middle = float(np.median(values))
        shape = marker if middle >= FLOOR else "<"
        axes.plot(max(middle, FLOOR), place, shape, color=color, markersize=7,
                  markeredgecolor=look.paper, clip_on=False)  # fmt: skip


def _finish(axes: Axes, rungs: Sequence[str], look: Theme, width: float) -> None:
    dress(axes, look, grid="x")
    axes.set_xlim(FLOOR, 1.03)
    axes.set_ylim(-0.6, len(rungs) - 0.4)
    axes.set_yticks(range(len(rungs)), [WORDS[rung] for rung in rungs])
    axes.tick_params(axis="y", length=0)
    axes.axvline(1.0, color=look.muted, linewidth=0.9)
    for height in range(1, len(rungs)):
        axes.axhline(height - 0.5, color=look.faint, linewidth=0.7)
    gap = " " if width > HALF * WIDE else "\n"
    axes.set_xlabel(f"agreement of the codes of two runs{gap}(1: equal; left edge: below −1)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))


def _legend(names: Sequence[str], look: Theme) -> list[Artist]:
    def mark(marker: str, color: str, size: float, label: str) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, color=color, markersize=size,
                      label=label)  # fmt: skip

    shown = [
        mark(MARKERS[i % len(MARKERS)], look.palette[i % len(look.palette)], 7, name)
        for i, name in enumerate(names)
    ]
    return [*shown, mark(".", look.muted, 4, "a pair of runs, 95 % interval")]
