"""Figures of what was measured: ratios of steps, and curves of cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from benchmarks.svi_steps.cases import CASES
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.theme import LIGHT, SMALL, WIDE, dress, figure_style

STYLES = {
    "Pyro SVI": (LIGHT.palette[1], "s"),
    "PyroLVM, uncompiled": (LIGHT.palette[5], "o"),
    "by hand, compiled": (LIGHT.muted, "D"),
    "NumPyro, jitted": (LIGHT.palette[2], "^"),
    "NumPyro, scanned": (LIGHT.palette[2], "v"),
    "PyroLVM, compiled": (LIGHT.palette[0], "o"),
    "PyroLVM, unrolled": (LIGHT.palette[0], "p"),
}
"""Colour and marker of each way, the compiled ones last, on top."""

COSTS = ("exact posterior", "finding the regions", "log densities", "k-hat")
TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)


def ratio_figure(summary: pd.DataFrame) -> Figure:
    """Time of a step relative to hand-written eager PyTorch, one row a case.

    Args:
        summary: One row a case and way, with ``ratio`` and its quartiles.
    """
    cases = [name for name in CASES if name in set(summary["case"])]
    with figure_style(LIGHT):
        figure = Figure(figsize=(WIDE, 1.3 + 0.75 * len(cases)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(1.0, color=LIGHT.muted, linewidth=0.9, zorder=1)
        for number, (way, (color, marker)) in enumerate(STYLES.items()):
            rows = summary[summary["way"] == way].set_index("case")
            shown = [name for name in cases if name in rows.index]
            if not shown:
                continue
            found = rows.loc[shown]
            apart = 0.11 * (number - (len(STYLES) - 1) / 2)
            place = [cases.index(name) + apart for name in shown]
            hollow = way in ("NumPyro, scanned", "PyroLVM, uncompiled")
            axes.hlines(
                place, found["lower_quartile"], found["upper_quartile"],
                color=color, linewidth=1.6, alpha=0.45, zorder=2,
            )  # fmt: skip
            axes.plot(
                found["ratio"], place, marker, color=color, label=way, markersize=5.5, zorder=3,
                markerfacecolor=LIGHT.paper if hollow else color, markeredgewidth=1.3,
            )  # fmt: skip
        axes.set_yticks(range(len(cases)), [CASES[name].title for name in cases])
        axes.set_ylim(len(cases) - 0.5, -0.5)
        _ratio_axis(axes)
        dress(axes, LIGHT, grid="x")
        figure.legend(loc="outside upper center", ncols=4)
    return figure


def _ratio_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("CPU time of a step; 1 = PyTorch by hand, eager (median, quartiles of rounds)")


def growth_figure(rounds: pd.DataFrame, exponents: pd.DataFrame) -> Figure:
    """Cost against each size on logarithmic axes, with the fitted exponents.

    Args:
        rounds: From :func:`benchmarks.growth.measure`.
        exponents: From :func:`benchmarks.growth.exponents`.
    """
    columns = {"data N": "data N", "draws K": "draws K", "regions": "regions"}
    with figure_style(LIGHT):
        figure = Figure(figsize=(WIDE, 3.2), layout="constrained")
        panels = figure.subplots(1, len(columns), sharey=True)
        for axes, (size, label) in zip(panels, columns.items(), strict=True):
            chosen = [curve for curve in exponents.index if curve.endswith(f"against {size}")]
            for curve in chosen:
                _curve(axes, rounds[rounds["curve"] == curve], exponents.loc[curve])
            for scale, axis in ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis)):
                scale("log")
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
                axis.set_minor_formatter(NullFormatter())
            axes.set_ylim(0.3, 2e5)
            axes.set_xlabel(label)
            axes.legend(fontsize=SMALL, title="exponent", title_fontsize=SMALL, loc="upper left")
            dress(axes, LIGHT, grid="y")
        panels[0].set_ylabel("CPU milliseconds")
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, fitted: pd.Series) -> None:
    medians = rows.groupby("size")["cpu_ms"].median()
    sizes, times = medians.index.to_numpy(float), medians.to_numpy()
    middle = np.exp(np.log(times).mean()), np.exp(np.log(sizes).mean())
    line = middle[0] * (sizes / middle[1]) ** fitted["exponent"]
    name = str(fitted.name).split(" against ")[0]
    color = LIGHT.palette[COSTS.index(name.removesuffix(" of 500 data"))]
    label = f"{name}: {fitted['exponent']:.2f}"
    axes.plot(sizes, times, "o", color=color, markersize=4.5)
    axes.plot(sizes, line, color=color, linewidth=1.2, label=label)


def write(figure: Figure, path: Path) -> None:
    """Write a figure as SVG; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_bytes(figure, "svg"))
