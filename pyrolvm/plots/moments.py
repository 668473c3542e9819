"""Moments in pictures: how far off, and to which side, each coordinate and each direction is.

Every figure is drawn from the data set of :class:`pyrolvm.diagnostics.moments.Moments`. White is
good, the paler shade asks for care, the deeper one is bad.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics.moments.thresholds import Threshold
from pyrolvm.plots.theme import SMALL, WIDE, Theme, ThemeName, figure_style, theme_named
from pyrolvm.plots.zones import FRAME, MOST_ROWS, ROW, dots, limits_of, name_rows, shade

Array = NDArray[np.float64]

RATIOS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.83, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Ticks of an axis of ratios."""
MOST_SHIFT, MOST_LOG = 4.0, math.log(12.0)
"""Errors beyond these stand at the edge."""


def moment_errors(
    moments: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Error of the mean and ratio of standard deviations, a row for each coordinate.

    One dot a datum, with two standard errors. The stroke among the ratios is the width of the
    conditional posterior, its median over data: a guide that ignores correlation sits on it.

    Args:
        moments: The data set.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure; of many coordinates those that are furthest off.

    Raises:
        DataError: If the moments are not there.
    """
    _require(moments, "mean_error", "log_sd_ratio")
    look, chosen = theme_named(theme), _worst(moments)
    names = [str(moments["coordinate"].values[index]) for index in chosen]
    with figure_style(look):
        room = min(1 + 0.08 * moments.sizes["datum"], 2.5)
        figure, (left, right) = _panels(len(chosen) * room, width)
        shift = _shifts(left, moments, "mean_error", look)
        reach = _widths(right, moments, "log_sd_ratio", look)
        for row, index in enumerate(chosen):
            at = {"coordinate": index}
            for axes, name, limit in ((left, "mean_error", shift), (right, "log_sd_ratio", reach)):
                value, error = (_values(moments.isel(at), name + end) for end in ("", "_se"))
                dots(axes, row, value, error, look.palette[0], limit)
            _conditional(right, row, _values(moments.isel(at), "conditional_log_sd"), reach, look)
        for axes in (left, right):
            name_rows(axes, names, look)
        left.set_xlabel("guide's mean less the posterior's,\nposterior sd")
        right.set_xlabel("guide's sd over the posterior's")
        _sides(left, ("too low", "too high"), look)
        _sides(right, ("too narrow", "too wide"), look)
        _count(figure, moments, len(chosen), look)
    return figure


def extreme_directions(
    moments: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """What marginals hide: the direction of the largest shift, the narrowest and the widest.

    Args:
        moments: The data set.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure, with a row for each datum; of many data those that are furthest off.

    Raises:
        DataError: If there is but one coordinate, or directions were not measured.
    """
    names = ("narrowest_log_sd_ratio", "widest_log_sd_ratio")
    _require(moments, "furthest_mean_error", *names)
    if moments.sizes["coordinate"] < 2 or np.isnan(_values(moments, names[0])).all():
        raise DataError(
            "Extreme directions need at least two coordinates, and few enough for a covariance "
            f"matrix, but the moments have {moments.sizes['coordinate']}."
        )
    look = theme_named(theme)
    size = np.abs([_values(moments, name) for name in names]).max(0)
    chosen = sorted(np.argsort(-size, kind="stable")[:MOST_ROWS].tolist())
    with figure_style(look):
        figure, (left, right) = _panels(len(chosen), width)
        shift = _shifts(left, moments, "furthest_mean_error", look)
        reach = max(_widths(right, moments, name, look) for name in names)
        _zone(right, reach, Threshold.LOG_SD, look)
        _ratio_ticks(right, reach)
        for row, index in enumerate(chosen):
            one = moments.isel(datum=[index])
            for axes, name, limit in (
                (left, "furthest_mean_error", shift), (right, names[0], reach),
                (right, names[1], reach),
            ):  # fmt: skip
                value, error = (_values(one, name + end) for end in ("", "_se"))
                dots(axes, row, value, error, look.palette[0], limit)
        for axes in (left, right):
            name_rows(axes, _data_names(moments, chosen), look)
        left.set_xlabel("largest shift in any direction,\nposterior sd")
        right.set_xlabel("guide's sd over the posterior's,\nnarrowest and widest direction")
        _sides(right, ("too narrow", "too wide"), look)
    return figure


def _panels(rows: float, width: float) -> tuple[Figure, tuple[Axes, Axes]]:
    """Two panels, side by side where there is room."""
    beside = width >= 6
    height = FRAME + ROW * max(rows, 2)
    figure = Figure(figsize=(width, height if beside else 2 * height), layout="constrained")
    grid = figure.subplots(*((1, 2) if beside else (2, 1)), squeeze=False).ravel()
    return figure, (grid[0], grid[1])


def _shifts(axes: Axes, moments: xr.Dataset, name: str, look: Theme) -> float:
    least = 1.15 * Threshold.SHIFT.bad
    reach = limits_of(*_both(moments, name), least, MOST_SHIFT)
    _zone(axes, reach, Threshold.SHIFT, look)
    return reach


def _widths(axes: Axes, moments: xr.Dataset, name: str, look: Theme) -> float:
    least = 1.15 * Threshold.LOG_SD.bad
    reach = limits_of(*_both(moments, name), least, MOST_LOG)
    _zone(axes, reach, Threshold.LOG_SD, look)
    _ratio_ticks(axes, reach)
    return reach


def _both(moments: xr.Dataset, name: str) -> tuple[Array, Array]:
    return _values(moments, name), _values(moments, f"{name}_se")


def _zone(axes: Axes, reach: float, threshold: Threshold, look: Theme) -> None:
    care, bad = threshold.care, threshold.bad
    shade(axes, (-reach, reach), (-bad, -care, care, bad), look)
    axes.axvline(0.0, color=look.muted, linewidth=0.8, zorder=1)


def _ratio_ticks(axes: Axes, reach: float) -> None:
    shown = [ratio for ratio in RATIOS if abs(math.log(ratio)) <= reach]
    if len(shown) > 8:
        shown = [ratio for ratio in shown if ratio not in (0.3, 0.7, 0.83, 1.2, 1.5, 3.0)]
    axes.set_xticks([math.log(ratio) for ratio in shown], [f"{ratio:g}" for ratio in shown])


def _conditional(axes: Axes, row: int, values: Array, reach: float, look: Theme) -> None:
    known = values[np.isfinite(values)]
    if len(known) and (middle := float(np.median(known))) > -reach:
        axes.plot([middle] * 2, [row - 0.36, row + 0.36], color=look.ink, linewidth=1.4, zorder=3)


def _sides(axes: Axes, words: Sequence[str], look: Theme) -> None:
    for place, side, text in ((0.0, "left", words[0]), (1.0, "right", words[1])):
        axes.annotate(
            text, (place, 1.0), xycoords="axes fraction", xytext=(0, 3),
            textcoords="offset points", ha=side, va="bottom", color=look.muted, fontsize=SMALL,
        )  # fmt: skip


def _worst(moments: xr.Dataset) -> list[int]:
    """Coordinates to show, in their order: those that are furthest off if they are many."""
    sizes = []
    for name, threshold in (("mean_error", Threshold.SHIFT), ("log_sd_ratio", Threshold.LOG_SD)):
        sizes.append(np.nan_to_num(np.abs(_values(moments, name))).max(0) / threshold.care)
    order = np.argsort(-np.max(sizes, axis=0), kind="stable")
    return sorted(int(index) for index in order[:MOST_ROWS])


def _count(figure: Figure, moments: xr.Dataset, shown: int, look: Theme) -> None:
    size, dim = moments.sizes["datum"], moments.sizes["coordinate"]
    text = "Bars: two standard errors. Stroke: width of the conditional posterior."
    if size > 1:
        text = f"A dot for each of {size} data. {text}"
    if shown < dim:
        text = f"The {shown} of {dim} coordinates that are furthest off. {text}"
    if figure.get_figwidth() < 6:
        text = text.replace(". ", ".\n")
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, color=look.muted)


def _data_names(moments: xr.Dataset, chosen: Sequence[int]) -> list[str]:
    if moments.sizes["datum"] == 1:
        return ["the data"]
    return [f"datum {moments['datum'].values[index]}" for index in chosen]


def _values(moments: xr.Dataset, name: str) -> Array:
    return np.asarray(moments[name].values, dtype=np.float64)


def _require(moments: xr.Dataset, *names: str) -> None:
    missing = [name for name in names if name not in moments]
    if missing:
        raise DataError(
            f"The picture of moments needs {', '.join(missing)}, but the data set has "
            f"{', '.join(map(str, moments.data_vars)) or 'nothing'}. Give it Moments.dataset()."
        )
