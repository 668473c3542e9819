"""Predictions in pictures: statistics of new data, places among predictions, leave-one-out.

Every figure is drawn from the data set of a :class:`pyrolvm.diagnostics.prediction.Prediction`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.stats import kstwo

from pyrolvm.core.errors import DataError
from pyrolvm.plots.annotation import shortened
from pyrolvm.plots.quantities import number
from pyrolvm.plots.small_multiples import draw_legend, legend_rows, panel_grid
from pyrolvm.plots.theme import (
    SMALL,
    WIDE,
    Theme,
    ThemeName,
    dress,
    figure_style,
    theme_named,
)

MOST_PANELS = 12
BINS = 40
BAND = 0.95
LEAST_P = 1e-12
NAMED = 3
"""Observations that are named beside their points."""
SHOWN = 0.995
"""Share of the draws that a panel shows."""

Array = NDArray[np.float64]

_WORDS = {
    "guide": "new data, guide's draws",
    "posterior": "the same, weighted to the posterior",
    "prior": "new data, prior",
}


def predicted_statistics(
    prediction: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Statistics of the data against those of new data, with their predictive p-values.

    Where every datum has a posterior of its own, new data come from the guide at each datum and
    from the prior; elsewhere from the guide and from its draws weighted to the posterior.

    Args:
        prediction: The data set.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure; of more than twelve statistics those with the smallest p-values.

    Raises:
        DataError: If there are no statistics.
    """
    _require(prediction, "guide_statistic", "predicted_statistics")
    look = theme_named(theme)
    second = "prior" if int(prediction.attrs.get("factorises", 0)) else "posterior"
    sources = [name for name in ("guide", second) if f"{name}_statistic" in prediction]
    p_values = _values(prediction, f"{sources[-1]}_p_value")
    chosen = sorted(np.argsort(p_values, kind="stable")[:MOST_PANELS].tolist())
    with figure_style(look):
        handles = _handles(sources, look)
        rows = legend_rows(handles, width)
        figure, places = panel_grid(len(chosen), width, len(rows))
        for axes, index in zip(places, chosen, strict=True):
            _panel(axes, prediction, sources, index, look)
        draw_legend(figure, handles, rows)
    return figure


def pit_difference(
    prediction: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Distribution of the places of observations among their predictions, less the uniform one.

    Observations are left out of what predicts them. The whole line of a model that predicts
    rightly stays in the band with a probability of 95 %. From left to right: first above and then
    below says that predictions are too narrow, the reverse too wide.

    Args:
        prediction: The data set, with ``pit``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If there are no scalar observations.
    """
    _require(prediction, "pit", "pit_difference")
    look, places = theme_named(theme), np.sort(_values(prediction, "pit"))
    size = places.size
    limit = float(kstwo.ppf(BAND, size))
    steps = np.concatenate([[0.0], np.repeat(places, 2), [1.0]])
    heights = np.repeat(np.arange(size + 1) / size, 2) - steps
    outside = bool(np.abs(heights).max() > limit)
    with figure_style(look):
        figure = Figure(figsize=(min(width, 5.6), 3.0), layout="constrained")
        axes = figure.add_subplot()
        axes.axhspan(-limit, limit, color=look.bands[0], linewidth=0)
        axes.axhline(0.0, color=look.muted, linewidth=0.8)
        axes.plot(steps, heights, color=look.palette[1 if outside else 0], linewidth=1.6)
        most = 1.15 * max(limit, float(np.abs(heights).max()))
        axes.set(xlim=(0, 1), ylim=(-most, most))
        axes.set_xlabel("place among predictions (PIT)")
        axes.set_ylabel("share of places below,\nless uniform")
        dress(axes, look, grid="y")
        _explain(
            figure, f"Band: {BAND:.0%} of right models stay inside, {size} observations.", look
        )
    return figure


def elpd_of_each(
    prediction: xr.Dataset, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Log predictive density of each observation without it, and how far it can be relied on.

    Args:
        prediction: The data set, with ``elpd_loo`` and ``pareto_k``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure; the observations that are predicted worst are named.

    Raises:
        DataError: If there are no leave-one-out figures.
    """
    _require(prediction, "elpd_loo", "elpd_of_each")
    look = theme_named(theme)
    elpd, pareto_k = _values(prediction, "elpd_loo"), _values(prediction, "pareto_k")
    threshold = float(prediction.attrs["khat_threshold"])
    finite = pareto_k[np.isfinite(pareto_k)]
    low = min(0.0, float(finite.min(initial=0.0))) - 0.1
    high = max(1.0, float(finite.max(initial=1.0))) + 0.15
    heights = np.clip(pareto_k, low, high)
    above = heights > threshold
    with figure_style(look):
        figure = Figure(figsize=(min(width, 6.4), 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(threshold, color=look.muted, linestyle="--", linewidth=1.0)
        for chosen, color in ((~above, look.palette[0]), (above, look.palette[1])):
            axes.scatter(
                elpd[chosen], heights[chosen], s=18, color=color, alpha=0.75, linewidths=0
            )
        axes.set_ylim(low - 0.05, high + 0.05)
        axes.annotate(
            f"{number(threshold, 2)}: trust ends", (1.0, threshold),
            xycoords=axes.get_yaxis_transform(), xytext=(-2, 2), textcoords="offset points",
            fontsize=SMALL, color=look.muted, ha="right", va="bottom",
        )  # fmt: skip
        for index in np.argsort(elpd)[:NAMED] if elpd.size > NAMED else []:
            axes.annotate(
                f"{index}", (elpd[index], heights[index]), xytext=(4, 3),
                textcoords="offset points", fontsize=SMALL, color=look.muted,
            )  # fmt: skip
        axes.set_xlabel("log predictive density, left out (nats)")
        axes.set_ylabel("Pareto k")
        dress(axes, look)
        total, error = (float(prediction.attrs[name]) for name in ("elpd_total", "elpd_se"))
        _explain(figure, f"Sum: {number(total, 4)} ± {number(error, 2)} nats.", look)
    return figure


def _panel(
    axes: Axes, prediction: xr.Dataset, sources: list[str], index: int, look: Theme
) -> None:
    """Histograms of one statistic, and what it is of the data."""
    observed = float(_values(prediction, "observed_statistic")[index])
    draws = {name: _values(prediction, f"{name}_statistic")[:, index] for name in sources}
    low, high = _limits(list(draws.values()), observed)
    edges = np.linspace(low, high, BINS + 1)
    for place, (name, values) in enumerate(draws.items()):
        heights, _ = np.histogram(values, edges)
        style = {"fill": True, "alpha": 0.35} if place == 0 else {"linewidth": 1.5}
        axes.stairs(heights / values.size, edges, color=_color(name, look), **style)  # type: ignore[arg-type]
    axes.axvline(observed, color=look.ink, linewidth=1.6)
    p_values = [float(_values(prediction, f"{name}_p_value")[index]) for name in sources]
    name = shortened(str(prediction["statistic"].values[index]))
    words = ", ".join(map(_p, p_values))
    axes.set_title(f"{name}: {words}", loc="left", fontsize=SMALL + 1)
    axes.set_xlim(low, high)
    axes.set_ylim(0, None)
    axes.set_yticks([])
    dress(axes, look)
    axes.spines["left"].set_visible(False)


def _limits(draws: list[Array], observed: float) -> tuple[float, float]:
    """A range that shows nearly all draws of the narrower source, and the observation."""
    ends = [np.quantile(values, [1 - SHOWN, SHOWN]) for values in draws]
    low, high = min(ends, key=lambda pair: float(pair[1] - pair[0]))
    widest = min(end[0] for end in ends), max(end[1] for end in ends)
    span = high - low
    low, high = max(low - span, widest[0]), min(high + span, widest[1])
    low, high = min(low, observed), max(high, observed)
    margin = 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _color(source: str, look: Theme) -> str:
    return look.palette[{"guide": 0, "posterior": 2, "prior": 1}[source]]


def _handles(sources: list[str], look: Theme) -> list[Artist]:
    words = [*((name, _color(name, look)) for name in sources), ("the data", look.ink)]
    return [
        Line2D([], [], color=color, linewidth=5 if name == "guide" else 1.6,
               alpha=0.5 if name == "guide" else 1.0, label=_WORDS.get(name, name))
        for name, color in words
    ]  # fmt: skip


def _p(value: float) -> str:
    return f"p = {number(value, 2)}" if value > LEAST_P else f"p < {LEAST_P:.0e}".replace("-", "−")


def _values(prediction: xr.Dataset, name: str) -> Array:
    return np.asarray(prediction[name].values, dtype=np.float64)


def _require(prediction: xr.Dataset, name: str, figure: str) -> None:
    if name not in prediction:
        reasons = [text for key, text in prediction.attrs.items() if key.startswith("missing_")]
        raise DataError(
            f"{figure} needs the variable {name!r}, but these predictions have none. "
            f"{' '.join(map(str, reasons))}".strip()
        )


def _explain(figure: Figure, text: str, look: Theme) -> None:
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, color=look.muted)
