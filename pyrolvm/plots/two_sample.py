"""Two-sample tests in a picture: the classifier with its null band, and the distance.

Drawn from the data set of :class:`pyrolvm.diagnostics.two_sample.TwoSample`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics.two_sample.findings import (
    BAD_C2ST,
    BAD_DISTANCE,
    CARE_C2ST,
    CARE_DISTANCE,
)
from pyrolvm.plots.theme import SMALL, WIDE, Theme, ThemeName, figure_style, theme_named
from pyrolvm.plots.zones import FRAME, MOST_ROWS, ROW, dots, name_rows, shade

Array = NDArray[np.float64]

NEEDED = ("c2st", "c2st_null_low", "c2st_null_high", "sliced_wasserstein")


def two_sample(tests: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    """Accuracy of the classifier with its null band, and distance, a row for each datum.

    The outlined band is where nine of ten values lie if guide and posterior are the same.

    Args:
        tests: The data set.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure; of many data those that are most easily told apart.

    Raises:
        DataError: If the tests are not there.
    """
    missing = [name for name in NEEDED if name not in tests]
    if missing:
        raise DataError(
            f"The picture of two-sample tests needs {', '.join(missing)}, but the data set has "
            f"{', '.join(map(str, tests.data_vars)) or 'nothing'}. Give it TwoSample.dataset()."
        )
    look = theme_named(theme)
    order = np.argsort(-np.asarray(tests["c2st"].values), kind="stable")[:MOST_ROWS]
    shown = tests.isel(datum=np.sort(order))
    beside = width >= 6
    height = FRAME + ROW * max(shown.sizes["datum"], 2)
    with figure_style(look):
        figure = Figure(figsize=(width, height if beside else 2 * height), layout="constrained")
        left, right = figure.subplots(*((1, 2) if beside else (2, 1)), squeeze=False).ravel()
        _classifier(left, shown, look)
        _distance(right, shown, look)
        for axes in (left, right):
            name_rows(axes, _names(tests, shown), look)
        _explain(figure, tests, shown, look)
    return figure


def _classifier(axes: Axes, tests: xr.Dataset, look: Theme) -> None:
    value, error = _values(tests, "c2st"), _values(tests, "c2st_se")
    low, high = _values(tests, "c2st_null_low"), _values(tests, "c2st_null_high")
    limits = min(0.46, float(low.min()), float(value.min())) - 0.01, 1.0
    shade(axes, limits, (-np.inf, -np.inf, CARE_C2ST, BAD_C2ST), look)
    for row in range(len(value)):
        _band(axes, row, low[row], high[row], look)
        dots(axes, row, value[row : row + 1], error[row : row + 1], look.palette[0], np.inf)
    axes.axvline(0.5, color=look.muted, linewidth=0.8, zorder=1)
    axes.set_xlabel("share that a classifier gets right (C2ST)")
    axes.set_xticks(np.arange(0.5, 1.01, 0.1))


def _distance(axes: Axes, tests: xr.Dataset, look: Theme) -> None:
    value, error = _values(tests, "sliced_wasserstein"), _values(tests, "sliced_wasserstein_se")
    chance = _values(tests, "sliced_wasserstein_null")
    reach = max(1.06 * float((value + 2 * np.nan_to_num(error)).max()), 1.3 * BAD_DISTANCE)
    shade(axes, (0.0, reach), (-np.inf, -np.inf, CARE_DISTANCE, BAD_DISTANCE), look)
    for row in range(len(value)):
        _band(axes, row, 0.0, chance[row], look)
        dots(axes, row, value[row : row + 1], error[row : row + 1], look.palette[0], np.inf)
    axes.set_xlabel("sliced Wasserstein distance, posterior sd")


def _band(axes: Axes, row: int, low: float, high: float, look: Theme) -> None:
    """Where the figure lies if guide and posterior are the same."""
    axes.barh(
        row, high - low, left=low, height=0.62, facecolor=look.paper, edgecolor=look.muted,
        linewidth=0.8, zorder=2,
    )  # fmt: skip


def _names(tests: xr.Dataset, shown: xr.Dataset) -> list[str]:
    if tests.sizes["datum"] == 1:
        return ["the data"]
    return [f"datum {index}" for index in shown["datum"].values]


def _explain(figure: Figure, tests: xr.Dataset, shown: xr.Dataset, look: Theme) -> None:
    text = (
        "Outlined: nine of ten values of a guide that is the posterior. Bars: two standard errors."
    )
    if shown.sizes["datum"] < tests.sizes["datum"]:
        text += f" The {shown.sizes['datum']} of {tests.sizes['datum']} data told apart best."
    if figure.get_figwidth() < 6:
        text = text.replace(". ", ".\n").replace(" of a guide", "\nof a guide")
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, color=look.muted)


def _values(tests: xr.Dataset, name: str) -> Array:
    return np.asarray(tests[name].values, dtype=np.float64)
