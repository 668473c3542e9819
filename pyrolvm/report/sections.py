"""The pictures of the page: which ones a comparison has, and how to read each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pyrolvm import plots
from pyrolvm.core.errors import DataError
from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.quantities import number
from pyrolvm.plots.theme import WIDE, ThemeName


@dataclass(frozen=True)
class Section:
    """One picture of the page.

    Args:
        key: Name of the figure and of its file.
        title: The question that it answers.
        caption: How to read it.
        alternative: What it shows, for readers who do not see it.
        draw: Makes the figure; raises :class:`~pyrolvm.core.errors.DataError` where the tree
            lacks what it needs.
    """

    key: str
    title: str
    caption: Callable[[ComparisonView], str]
    alternative: str
    draw: Callable[..., Figure]


def _gap_caption(comparison: ComparisonView) -> str:
    is_split = bool(np.isfinite(comparison.column("approximation_gap")).any())
    split = errors = bound = ""
    if comparison.is_bound:
        long = "gaps and approximation gaps" if is_split else "gaps"
        bound = f" The evidence is only a bound, so {long} are at least as long as drawn (≥)."
    if is_split:
        split = (
            " The solid part is what the family cannot express, the hatched part what the shared "
            "encoder loses."
        )
    if np.isfinite(comparison.column("gap_se")).any():
        parts = (
            ": the thick one of the whole gap, the thin one above the bar of the solid part, the "
            "thin one below of the hatched part"
        )
        errors = f" Whiskers are one standard error{parts if is_split else ''}."
    return (
        f"Shorter is better; 0 is the exact posterior.{split}{errors} The axis is linear, so read "
        f"gaps that are too small to see from the numbers.{bound}"
    )


def _contour_caption(comparison: ComparisonView) -> str:
    picture = comparison.shared("picture")
    if picture is None or "log_density" not in picture:
        return (
            "Each panel is one datum's latent space: the lines enclose 50 % (thick) and 90 % "
            "(thin) of the guide's mass. The exact posterior of this model is not known, so "
            "there is nothing to hold them against but each other."
        )
    if "z_2" not in picture:
        return "Filled: the exact posterior density of z₁ for one datum. Line: the guide's."
    return (
        "Each row of panels is one datum’s latent space (on a narrow page: each column). The "
        "shades are the exact posterior: they end at 50 %, 90 % and 99 % of its mass. The lines "
        "enclose 50 % (thick) and 90 % (thin) of the guide’s mass. Where a guide is right, its "
        "lines run along the edges of the two inner shades; a shade without lines is a mode that "
        "the guide misses."
    )


def _khat_caption(comparison: ComparisonView) -> str:
    threshold = number(comparison.khat_threshold, 2)
    return (
        "One dot a datum (its height in the strip has no meaning), the bar is the median. Right "
        f"of the dashed line, at {threshold}, importance weights from this guide are not to be "
        "trusted for that datum. The scale at the bottom is the sampling error of a single dot: "
        "one dot beyond the line says little, a tenth of the data says much."
    )


def _sorted_caption(_: ComparisonView) -> str:
    return (
        "Each line sorts the data by their own gap: flat and low is a guide that is right "
        "everywhere, a steep right end one that fails on a few data (where those would squeeze "
        "the rest, the axis turns logarithmic, as its label says). A datum’s gap is an estimate "
        "from a finite number of draws and may dip below 0."
    )


def _reconstruction_caption(_: ComparisonView) -> str:
    return (
        "The first row shows data, the others the mean of x when z is drawn from the guide; RMSE "
        "over the shown data. Good pictures are no proof of a good guide: a guide that is too "
        "narrow, or that misses a mode, reconstructs well too."
    )


def _prior_caption(_: ComparisonView) -> str:
    return (
        "If the model’s own draws do not look like the data, a better guide will not help: "
        "change the model. Both sides use one scale."
    )


def _training_caption(_: ComparisonView) -> str:
    return (
        "Means over windows of steps; the first steps may lie above the axis. A curve that still "
        "falls at its right end says that the guide was not done, and its amortization gap is "
        "then partly unfinished training. Only curves of one model on the same data compare."
    )


SECTIONS = (
    Section(
        "gap_bars",
        "How far is each guide, and why?",
        _gap_caption,
        "Bars: gap of each guide, with its parts where it is split. The table has the numbers.",
        plots.gap_bars,
    ),
    Section(
        "posterior_contours",
        "What does each guide get wrong?",
        _contour_caption,
        "Small multiples: exact posterior density of a few data, with the contours of each guide "
        "over it.",
        plots.posterior_contours,
    ),
    Section(
        "gap_per_datum",
        "Wrong everywhere, or for a few data?",
        _sorted_caption,
        "Lines: the gap of each datum, sorted, for each guide.",
        plots.gap_per_datum,
    ),
    Section(
        "khat_per_datum",
        "For which data can the weights be trusted?",
        _khat_caption,
        "Strips of dots: Pareto k-hat of each datum, for each guide, with the threshold of trust.",
        plots.khat_per_datum,
    ),
    Section(
        "reconstructions",
        "What does each guide make of the data?",
        _reconstruction_caption,
        "Data, and their posterior-mean reconstructions under each guide.",
        plots.reconstructions,
    ),
    Section(
        "prior_samples",
        "Is the model any good?",
        _prior_caption,
        "Data beside draws from the model's prior.",
        plots.prior_samples,
    ),
    Section(
        "training_curves",
        "Had training ended?",
        _training_caption,
        "Lines: loss against training step, for each guide.",
        plots.training_curves,
    ),
)


def figures(
    tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE
) -> dict[str, Figure]:
    """Every figure that a comparison has the numbers for.

    Args:
        tree: A comparison.
        theme: ``"light"`` or ``"dark"``.
        width: Inches; :data:`~pyrolvm.plots.theme.NARROW` for phones.

    Returns:
        Figure by name, in the order of the page.
    """
    read_comparison(tree)
    drawn = {}
    for section in SECTIONS:
        try:
            drawn[section.key] = section.draw(tree, theme, width=width)
        except DataError:
            continue
    return drawn
