"""Calibration in pictures: ranks against uniform ones, and what regions of the guide hold.

Every figure is drawn from the data set of a :class:`pyrolvm.inference.calibration.Calibration`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics.calibration.histogram import bin_edges, expected_limits
from pyrolvm.plots.annotation import shortened
from pyrolvm.plots.quantities import number
from pyrolvm.plots.small_multiples import label_axes, panel_grid
from pyrolvm.plots.theme import (
    SMALL,
    WIDE,
    Theme,
    ThemeName,
    dress,
    figure_style,
    theme_named,
)

MOST_PANELS = 9
LEAST_P = 1e-12
SIGNIFICANCE = 0.01

Array = NDArray[np.float64]


def ecdf_difference(
    calibration: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """How far the distribution function of each quantity's ranks is from uniform.

    A calibrated guide's whole line stays in the band with the probability that the band is for.
    From left to right: first above and then below says too narrow, the reverse too wide, all on
    one side shifted. Of many quantities those that are furthest off are shown.

    Args:
        calibration: The data set.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.
    """
    look, chosen = theme_named(theme), _worst(calibration)
    nominal = _closed(_values(calibration, "alpha"))
    low, high = (
        _closed(_values(calibration, name)) - nominal for name in ("band_low", "band_high")
    )
    with figure_style(look):
        figure, places = panel_grid(len(chosen), width)
        for axes, index in zip(places, chosen, strict=True):
            difference = _closed(_values(calibration, "ecdf")[index]) - nominal
            axes.fill_between(nominal, low, high, color=look.bands[0], linewidth=0)
            axes.axhline(0.0, color=look.muted, linewidth=0.8)
            axes.plot(nominal, difference, color=_color(calibration, index, look), linewidth=1.5)
            axes.set_xlim(0, 1)
            _title(axes, calibration, index)
            dress(axes, look, grid="y")
        _same_limits(places)
        label_axes(
            places,
            "rank, as a share of its largest",
            ["share of ranks below,\nless uniform"] * len(places),
        )
        _explain(
            figure,
            f"Band: {_band(calibration)} of calibrated guides stay inside it all along.",
            look,
        )
    return figure


def rank_histograms(
    calibration: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Histogram of each quantity's ranks: flat, a U (too narrow), a dome (too wide), a slope.

    Args:
        calibration: The data set.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.
    """
    look, chosen = theme_named(theme), _worst(calibration)
    ranks, num_ranks = calibration["rank"].values, int(calibration.attrs["num_draws"]) + 1
    edges = bin_edges(num_ranks, len(ranks))
    low, high = expected_limits(num_ranks, len(ranks), float(calibration.attrs["band"]))
    with figure_style(look):
        figure, places = panel_grid(len(chosen), width)
        for axes, index in zip(places, chosen, strict=True):
            counts, _ = np.histogram(ranks[:, index], edges - 0.5)
            axes.stairs(
                counts, edges, fill=True, color=_color(calibration, index, look), alpha=0.75
            )
            axes.stairs(high, edges, baseline=low, fill=True, color=look.muted, alpha=0.3)
            axes.set_xlim(0, num_ranks)
            axes.set_ylim(0, None)
            _title(axes, calibration, index)
            dress(axes, look)
        label_axes(places, f"rank among {num_ranks - 1} draws", ["simulations"] * len(places))
        _explain(
            figure, f"Grey: {_band(calibration)} of bars of a calibrated guide end here.", look
        )
    return figure


def coverage_curve(
    calibration: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """How often the guide's highest-density regions hold the truth, at every level.

    Below the diagonal the regions are too small: the guide is overconfident.

    Args:
        calibration: The data set, with ``covered``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If the guide has no density at the truth.
    """
    if "covered" not in calibration:
        raise DataError(
            "coverage_curve needs the variable 'covered', but this calibration has none: "
            f"{calibration.attrs.get('without_density') or 'it was not measured'}. "
            "tarp_curve needs no density."
        )
    return _curve(
        calibration, "covered", None, ("level of the highest-density region",
        "share of truths inside"), float(calibration.attrs["coverage_p"]), theme, width,
    )  # fmt: skip


def tarp_curve(
    calibration: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """How often balls around random points, sized by the guide's draws, hold the truth.

    Args:
        calibration: The data set.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.
    """
    return _curve(
        calibration, "ecp", ("ecp_low", "ecp_high"), ("share of the guide's draws in the ball",
        "share of truths inside"), float(calibration.attrs["tarp_p"]), theme, width,
    )  # fmt: skip


def _curve(
    calibration: xr.Dataset,
    name: str,
    interval: tuple[str, str] | None,
    labels: tuple[str, str],
    p_value: float,
    theme: ThemeName,
    width: float,
) -> Figure:
    look, nominal = theme_named(theme), _closed(_values(calibration, "alpha"))
    color = look.palette[1 if p_value < SIGNIFICANCE else 0]
    with figure_style(look):
        side = min(width, 4.4)
        figure = Figure(figsize=(side, side + 0.25), layout="constrained")
        axes = figure.subplots()
        band = [_closed(_values(calibration, each)) for each in ("band_low", "band_high")]
        axes.fill_between(nominal, band[0], band[1], color=look.bands[0], linewidth=0)
        axes.plot([0, 1], [0, 1], color=look.muted, linewidth=0.8)
        if interval is not None:
            low, high = (_closed(_values(calibration, each)) for each in interval)
            axes.fill_between(nominal, low, high, color=color, alpha=0.25, linewidth=0)
        axes.plot(nominal, _closed(_values(calibration, name)), color=color, linewidth=1.7)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_title(_p(p_value), loc="left", fontsize=SMALL + 1)
        for text, place, turn in (
            ("too cautious", (0.06, 0.94), "left"), ("overconfident", (0.94, 0.06), "right"),
        ):  # fmt: skip
            axes.text(*place, text, color=look.muted, fontsize=SMALL, ha=turn, va="center")
        dress(axes, look)
        _explain(figure, f"Band: {_band(calibration)} of calibrated guides stay inside.", look)
    return figure


def _values(calibration: xr.Dataset, name: str) -> Array:
    return np.asarray(calibration[name].values, dtype=np.float64)


def _closed(shares: Array) -> Array:
    """A distribution function with its ends, where it is 0 and 1."""
    return np.concatenate([[0.0], shares, [1.0]])


def _worst(calibration: xr.Dataset) -> list[int]:
    """The quantities to show, in their order: those furthest from uniform if they are many."""
    order = np.argsort(-_values(calibration, "distance"), kind="stable")
    return sorted(int(index) for index in order[:MOST_PANELS])


def _color(calibration: xr.Dataset, index: int, look: Theme) -> str:
    return look.palette[1 if _values(calibration, "adjusted")[index] < SIGNIFICANCE else 0]


def _title(axes: Axes, calibration: xr.Dataset, index: int) -> None:
    name = shortened(str(calibration["coordinate"].values[index]))
    adjusted = float(_values(calibration, "adjusted")[index])
    axes.set_title(f"{name}: adjusted {_p(adjusted)}", loc="left", fontsize=SMALL + 1)


def _p(value: float) -> str:
    return f"p = {number(value, 2)}" if value > LEAST_P else f"p < {LEAST_P:.0e}".replace("-", "−")


def _band(calibration: xr.Dataset) -> str:
    return f"{float(calibration.attrs['band']):.0%}"


def _same_limits(places: list[Axes]) -> None:
    most = max(abs(limit) for axes in places for limit in axes.get_ylim())
    for axes in places:
        axes.set_ylim(-most, most)


def _explain(figure: Figure, text: str, look: Theme) -> None:
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, color=look.muted)
