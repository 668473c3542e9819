"""Data and what each guide makes of them: the mean of x under the guide's posterior."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.plots.annotation import shortened
from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.panels import bare, finite_limits, panel, show_image, write
from pyrolvm.plots.quantities import number
from pyrolvm.plots.theme import (
    SMALL,
    WIDE,
    Theme,
    ThemeName,
    dress,
    figure_style,
    guide_styles,
    theme_named,
)

MOST_PICTURES = 8
LABEL_INCHES = 1.75


def reconstructions(
    tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """The first row shows data, each further row a guide's posterior-mean reconstruction of them.

    Images where the data are images; points for one or two dimensions; strips of colour for more.

    Args:
        tree: A comparison with pictured data, or with posterior predictive draws.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If no guide has a reconstruction.
    """
    comparison, look = read_comparison(tree), theme_named(theme)
    pairs = {name: _reconstruction(comparison, name) for name in comparison.names}
    known = {name: pair for name, pair in pairs.items() if pair is not None}
    if not known:
        raise DataError(
            "reconstructions needs 'reconstruction' in a guide's group picture (and x in "
            "/picture), or its groups posterior_predictive and observed_data, but no guide of "
            "this comparison has them."
        )
    data = next(iter(known.values()))[0]
    rows = {name: pair[1] for name, pair in known.items() if pair[1].shape == data.shape}
    with figure_style(look):
        if comparison.image_shape is not None:
            return _images(comparison, data, rows, look, width)
        if data.shape[1] <= 2:
            return _points(comparison, data, rows, look, width)
        return _strips(comparison, data, rows, look, width)


def _reconstruction(
    comparison: ComparisonView, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    shared, own = comparison.shared("picture"), comparison.group(name, "picture")
    if shared is not None and own is not None and "x" in shared and "reconstruction" in own:
        data, mean = shared["x"].values, own["reconstruction"].values
    else:
        observed = comparison.group(name, "observed_data")
        drawn = comparison.group(name, "posterior_predictive")
        if observed is None or drawn is None or "x" not in observed or "x" not in drawn:
            return None
        data, mean = observed["x"].values, drawn["x"].mean(("chain", "draw")).values
    data, mean = np.asarray(data, dtype=np.float64), np.asarray(mean, dtype=np.float64)
    flat = (data.shape[0], -1)
    return data.reshape(flat)[:MOST_PICTURES], mean.reshape(flat)[:MOST_PICTURES]


def _error(data: NDArray[np.float64], mean: NDArray[np.float64]) -> str:
    return f"RMSE {number(math.sqrt(float(np.mean((data - mean) ** 2))), 2)}"


def _images(
    comparison: ComparisonView,
    data: NDArray[np.float64],
    rows: dict[str, NDArray[np.float64]],
    look: Theme,
    width: float,
) -> Figure:
    shape = comparison.image_shape
    assert shape is not None
    above = width < 6
    left = 0.04 if above else LABEL_INCHES
    count = min(len(data), 6 if above else MOST_PICTURES)
    cell = min((width - left) / count - 0.06, 0.62 if above else 0.95)
    tall = cell * shape[0] / shape[1]
    pitch = tall + (0.3 if above else 0.09)
    top = 0.22 if above else 0.06
    height = top + pitch * (len(rows) + 1) - (0.26 if above else 0.05)
    figure = Figure(figsize=(width if above else left + count * (cell + 0.06), height))
    styles, limits = guide_styles(comparison, look), finite_limits(data)
    lines = [("data", look.ink, "", data)]
    lines += [(name, styles[name].color, _error(data, mean), mean) for name, mean in rows.items()]
    for row, (name, color, note, values) in enumerate(lines):
        start = top + row * pitch
        _row_label(figure, name, note, color, look, start, tall, above=above)
        for column in range(count):
            axes = panel(figure, left + column * (cell + 0.06), start, cell, tall)
            show_image(axes, values[column].reshape(shape), limits, look)
    return figure


def _row_label(
    figure: Figure,
    name: str,
    note: str,
    color: str,
    look: Theme,
    start: float,
    tall: float,
    *,
    above: bool,
) -> None:
    if above:
        write(figure, 0.04, start - 0.06, shortened(name), size=9, color=color, fontweight="bold")
        right = figure.get_figwidth() - 0.04
        write(figure, right, start - 0.06, note, size=SMALL - 0.5, color=look.muted, ha="right")
        return
    middle = start + tall / 2
    shift = 0.02 if note else -0.05
    write(
        figure, 0.04, middle - shift, shortened(name, 19), size=9.5, color=color, fontweight="bold"
    )
    write(figure, 0.04, middle + 0.15, note, size=SMALL, color=look.muted)


def _points(
    comparison: ComparisonView,
    data: NDArray[np.float64],
    rows: dict[str, NDArray[np.float64]],
    look: Theme,
    width: float,
) -> Figure:
    columns = max(1, min(len(rows), int(width / 1.8)))
    lines = math.ceil(len(rows) / columns)
    figure = Figure(figsize=(width, 2.1 * lines + 0.35), layout="constrained")
    styles = guide_styles(comparison, look)
    planes = np.concatenate([_plane(values) for values in (data, *rows.values())])
    limits = [_with_margin(planes[:, axis]) for axis in (0, 1)]
    for index, (name, mean) in enumerate(rows.items()):
        axes = figure.add_subplot(lines, columns, index + 1)
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        first, second = _plane(data), _plane(mean)
        for start, end in zip(first, second, strict=True):
            axes.plot(*zip(start, end, strict=True), color=styles[name].color, linewidth=0.9)
        axes.plot(*first.T, linestyle="none", marker="o", markersize=4, color=look.ink)
        axes.plot(*second.T, linestyle="none", marker="s", markersize=4, color=styles[name].color)
        axes.set_title(
            shortened(name, 22), loc="left", color=styles[name].color, fontweight="bold"
        )
        axes.set_xlabel("x₁" if data.shape[1] == 2 else "datum")
        axes.set_ylabel("x₂" if data.shape[1] == 2 else "x")
        dress(axes, look)
    return figure


def _with_margin(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = finite_limits(values)
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin


def _plane(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if values.shape[1] == 2:
        return values
    return np.column_stack([np.arange(len(values), dtype=np.float64), values[:, 0]])


def _strips(
    comparison: ComparisonView,
    data: NDArray[np.float64],
    rows: dict[str, NDArray[np.float64]],
    look: Theme,
    width: float,
) -> Figure:
    above = width < 6
    left = 0.04 if above else LABEL_INCHES
    tall = 0.13 * len(data)
    pitch = tall + (0.3 if above else 0.12)
    top = 0.22 if above else 0.06
    figure = Figure(figsize=(width, top + pitch * (len(rows) + 1) + 0.25))
    styles, (low, high) = guide_styles(comparison, look), finite_limits(data)
    lines = [("data", look.ink, "", data)]
    lines += [(name, styles[name].color, _error(data, mean), mean) for name, mean in rows.items()]
    for row, (name, color, note, values) in enumerate(lines):
        start = top + row * pitch
        _row_label(figure, name, note, color, look, start, tall, above=above)
        axes = panel(figure, left, start, width - left - 0.04, tall)
        axes.imshow(
            values,
            cmap=look.strip_colormap,
            vmin=low,
            vmax=high if high > low else low + 1,
            aspect="auto",
            interpolation="nearest",
        )
        bare(axes, look)
    text = f"one line a datum, one column for each of the {data.shape[1]} dimensions of x"
    foot = figure.get_figheight() - 0.08
    write(figure, left, foot, text, size=SMALL - 0.5, color=look.muted)
    return figure
