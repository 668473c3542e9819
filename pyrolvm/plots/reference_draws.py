"""Draws of the guide over draws of the posterior, for pairs of coordinates of one datum.

Drawn from the group ``/reference`` of a diagnosis: ``reference`` (draw, datum, coordinate) and
``guide`` (guide_draw, datum, coordinate), in unconstrained coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.plots.annotation import shortened
from pyrolvm.plots.theme import SMALL, WIDE, Theme, ThemeName, dress, figure_style, theme_named

Array = NDArray[np.float64]

MOST_COORDINATES = 4
MOST_DOTS = 600
NUM_BINS = 24
OUTER = 0.002
"""Share of the draws that may lie beyond either edge of a panel."""


def draw_pairs(
    reference: xr.Dataset,
    theme: ThemeName = "light",
    *,
    datum: int | None = None,
    coordinates: Sequence[str] | None = None,
    width: float = WIDE,
) -> Figure:
    """Scatter every pair of up to four coordinates, with their histograms on the diagonal.

    Args:
        reference: The group ``/reference``.
        theme: ``"light"`` or ``"dark"``.
        datum: Which datum, by its index; the first one if not given.
        coordinates: Names of up to four coordinates; the first ones if not given.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If draws of guide or posterior are missing.
        UnknownNameError: If a coordinate or the datum is not among them.
    """
    missing = [name for name in ("guide", "reference") if name not in reference]
    if missing:
        raise DataError(
            f"The picture of draws needs {' and '.join(missing)}, but the group has "
            f"{', '.join(map(str, reference.data_vars)) or 'nothing'}: no reference draws were "
            "made, or they were refused."
        )
    look = theme_named(theme)
    columns, row = _columns(reference, coordinates), _row(reference, datum)
    names = [str(reference["coordinate"].values[column]) for column in columns]
    guide, posterior = (
        np.asarray(reference[name].isel(datum=row, coordinate=columns).values, dtype=np.float64)
        for name in ("guide", "reference")
    )
    limits = np.quantile(np.concatenate([guide, posterior]), [OUTER, 1 - OUTER], axis=0).T
    size = len(names)
    side = min(width, 1.8 + 1.5 * size)
    with figure_style(look):
        figure = Figure(figsize=(side, side), layout="constrained")
        grid = figure.subplots(size, size, squeeze=False)
        for (down, across), axes in np.ndenumerate(grid):
            if across > down:
                axes.set_visible(False)
                continue
            draws = guide[:, [across, down]], posterior[:, [across, down]]
            if across == down:
                _histograms(axes, *draws, limits[down], look)
            else:
                _scatter(axes, *draws, look)
                axes.set_ylim(*limits[down])
            axes.set_xlim(*limits[across])
            dress(axes, look)
            axes.locator_params(nbins=4, axis="x")
            _label(axes, names, down, across)
        _legend(figure, reference, row, look)
    return figure


def _columns(reference: xr.Dataset, coordinates: Sequence[str] | None) -> list[int]:
    known = [str(name) for name in reference["coordinate"].values]
    for name in coordinates or ():
        if name not in known:
            raise UnknownNameError("coordinate", name, known)
    columns = range(len(known)) if coordinates is None else map(known.index, coordinates)
    return list(columns)[:MOST_COORDINATES]


def _row(reference: xr.Dataset, datum: int | None) -> int:
    known = [int(index) for index in reference["datum"].values]
    if datum is None:
        return 0
    if datum not in known:
        raise UnknownNameError("datum", str(datum), map(str, known))
    return known.index(datum)


def _histograms(axes: Axes, guide: Array, posterior: Array, limits: Array, look: Theme) -> None:
    low, high = limits
    edges = np.linspace(low, high, NUM_BINS + 1)
    for draws, filled in ((posterior, True), (guide, False)):
        density, _ = np.histogram(draws[:, 0], edges, density=True)
        if filled:
            axes.stairs(density, edges, fill=True, color=look.bands[1])
        else:
            axes.stairs(density, edges, color=look.palette[1], linewidth=1.4)
    axes.set_yticks([])
    axes.set_ylim(0, None)


def _scatter(axes: Axes, guide: Array, posterior: Array, look: Theme) -> None:
    for draws, color, order in ((posterior, look.muted, 2), (guide, look.palette[1], 3)):
        shown = draws[:: -(-len(draws) // MOST_DOTS)]
        axes.plot(
            *shown.T, ".", color=color, markersize=3.2, alpha=0.55, markeredgewidth=0,
            zorder=order, rasterized=True,
        )  # fmt: skip


def _label(axes: Axes, names: Sequence[str], down: int, across: int) -> None:
    if down == len(names) - 1:
        axes.set_xlabel(shortened(names[across], 20))
    else:
        axes.tick_params(labelbottom=False)
    if across == 0 and down > 0:
        axes.set_ylabel(shortened(names[down], 20))
    elif across != down:
        axes.tick_params(labelleft=False)


def _legend(figure: Figure, reference: xr.Dataset, row: int, look: Theme) -> None:
    method = str(reference.attrs.get("method", ""))
    of_datum = (
        f" of datum {reference['datum'].values[row]}" if reference.sizes["datum"] > 1 else ""
    )
    handles = [
        Line2D([], [], color=color, label=label, linestyle="none", marker="o", markersize=5)
        for color, label in (
            (look.muted, f"posterior{of_datum}" + (f" ({method})" if method else "")),
            (look.palette[1], "guide"),
        )
    ]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=2,
        fontsize=SMALL + 1,
    )
