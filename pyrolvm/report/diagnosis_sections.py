"""The pictures of a diagnosis: the question that each answers, and how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure

from pyrolvm.core.errors import DataError
from pyrolvm.plots.calibration import coverage_curve, ecdf_difference, tarp_curve
from pyrolvm.plots.diagnosis import draws_at_worst, gap_of_each, gap_split, khat_of_each
from pyrolvm.plots.moments import extreme_directions, moment_errors
from pyrolvm.plots.prediction import elpd_of_each, pit_difference, predicted_statistics
from pyrolvm.plots.theme import WIDE, ThemeName
from pyrolvm.plots.two_sample import two_sample


@dataclass(frozen=True)
class Section:
    """One picture of the page.

    Args:
        key: Name of the figure.
        title: The question that it answers.
        caption: How to read it.
        alternative: What it shows, for readers who do not see it.
        draw: Makes the figure from the tree, a theme and a width; raises
            :class:`~pyrolvm.core.errors.DataError` where the tree lacks what it needs.
    """

    key: str
    title: str
    caption: str
    alternative: str
    draw: Callable[..., Figure]


def _of(group: str, draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """A figure of one group of the tree."""

    def drawn(tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
        if group not in tree.children:
            raise DataError(f"{draw.__name__} needs the group /{group}, which is not there.")
        return draw(tree[group].to_dataset(), theme, width=width)

    return drawn


SECTIONS = (
    Section(
        "draws_at_worst",
        "Where does the guide draw, and where is the posterior?",
        "Draws of the guide over reference draws of the posterior, for the datum at which a "
        "classifier tells them apart most easily; up to four coordinates, those that are furthest "
        "off. Where the guide is right, the two clouds cover each other. Coordinates are "
        "unconstrained: a positive number, for example, stands as its logarithm.",
        "Scatter plots of pairs of coordinates, and histograms: guide and posterior.",
        draws_at_worst,
    ),
    Section(
        "moment_errors",
        "In which direction is it off?",
        "Left, how far the guide’s mean is from the posterior’s, in posterior standard "
        "deviations; right, how its standard deviation compares. One dot a datum, with two "
        "standard errors; the shades ask for care, then are bad. The stroke on the right is the "
        "width that the posterior keeps where all other coordinates are known: dots that sit on "
        "it are those of a guide that ignores correlation.",
        "Dots: error of the mean and ratio of standard deviations, for each coordinate.",
        _of("moments", moment_errors),
    ),
    Section(
        "extreme_directions",
        "And between the coordinates?",
        "Each coordinate alone can look right while a sum or a difference of them does not. Shown "
        "are, for each datum, the direction of the largest shift, and those in which the guide is "
        "narrowest and widest against the posterior.",
        "Dots: for each datum the largest shift, the narrowest and the widest direction.",
        _of("moments", extreme_directions),
    ),
    Section(
        "two_sample",
        "Can draws of the guide be told from draws of the posterior?",
        "Left, how often a classifier that has never seen a draw says rightly where it is from: "
        "one half is guessing, and the outlined band is what chance allows. Right, the distance "
        "in posterior standard deviations. The classifier also sees wrong shapes that mean and "
        "spread do not show; with many draws it sees differences too small to matter.",
        "Dots: accuracy of a classifier with its null band, and sliced Wasserstein distance.",
        _of("two_sample", two_sample),
    ),
    Section(
        "khat",
        "For which data can the draws be reweighted?",
        "One dot a datum (its height has no meaning), the bar is the median. Right of the dashed "
        "line the importance weights of that datum are not to be trusted. The scale at the bottom "
        "is the sampling error of a single dot: one dot beyond the line says little, a tenth of "
        "the data says much. A low k-hat is no proof: a guide that never visits a mode does not "
        "know of it.",
        "Dots: Pareto k-hat of each datum, with the threshold of trust.",
        khat_of_each,
    ),
    Section(
        "ecdf_difference",
        "On data from the model itself: does the truth rank anywhere among the draws?",
        "For data that the model simulated, the true latent is ranked among draws of the guide. "
        "If the guide is the posterior, all ranks are as likely, and the line stays in the band. "
        "Above first and below then says too narrow, the reverse too wide; all on one side says "
        "shifted. Averages over data hide errors of opposite sign.",
        "Lines: for each coordinate the distribution of ranks less the uniform one, with a band.",
        _of("calibration", ecdf_difference),
    ),
    Section(
        "coverage",
        "Do its regions hold the truth as often as they claim?",
        "Each level of the guide’s highest-density regions, and the share of simulated truths "
        "that lie inside. On the diagonal the guide keeps its word; below, it is overconfident.",
        "A curve: share of truths inside regions of each level, with the diagonal and a band.",
        _of("calibration", coverage_curve),
    ),
    Section(
        "tarp",
        "And balls around random points: do they hold it as often?",
        "Balls around points drawn at random, as large as to hold a given share of the guide’s "
        "draws. A guide that ignores the data can pass the picture above, but not this one.",
        "A curve: share of truths inside balls around random points, with the diagonal.",
        _of("calibration", tarp_curve),
    ),
    Section(
        "gap_split",
        "How many nats is it off, and by what?",
        "Shorter is better; 0 is the posterior itself. The solid part is what the family cannot "
        "express, and only a richer family reduces it. The hatched part is what the guide loses "
        "within its family: by an encoder that all data share, or by training that has not "
        "arrived. Where the evidence is only a bound, the bar is at least as long (≥).",
        "A bar: the gap between log evidence and ELBO, split into what family and guide lose.",
        gap_split,
    ),
    Section(
        "gap_of_each",
        "Is it a little off everywhere, or far off somewhere?",
        "The line sorts the data by their own gap: flat and low is a guide that is right "
        "everywhere, a steep right end one that fails on a few data. A datum’s gap is an estimate "
        "from a finite number of draws and may dip below 0.",
        "A line: the gap of every datum, sorted.",
        gap_of_each,
    ),
    Section(
        "predicted_statistics",
        "Does the fitted model predict data like these?",
        "Each panel is one statistic of the data (the line) among the same of new data. A line in "
        "the far tail is a feature that is not predicted. Where the guide’s draws miss it and the "
        "others do not, the guide is at fault; where all miss it, the model is. Data that were "
        "used for fitting look better than new ones will.",
        "Histograms: statistics of replicated data, with that of the observed data.",
        _of("prediction", predicted_statistics),
    ),
    Section(
        "pit",
        "Do observations fall anywhere among their predictions?",
        "Each observation is ranked among predictions of it from the others; if they are right, "
        "all ranks are as likely and the line stays in the band. Above first and below then says "
        "that predictions are too narrow, the reverse too wide.",
        "A line: distribution of leave-one-out ranks less the uniform one, with a band.",
        _of("prediction", pit_difference),
    ),
    Section(
        "elpd",
        "Which observations are predicted worst?",
        "The log predictive density of each observation without it; low is a surprise. Where its "
        "Pareto k is beyond the threshold, the figure is not to be relied on.",
        "Dots: leave-one-out log predictive density of each observation, with Pareto k.",
        _of("prediction", elpd_of_each),
    ),
)


def figures(
    tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE
) -> dict[str, Figure]:
    """Every figure that a diagnosis has the numbers for.

    Args:
        tree: Of the diagnosis.
        theme: ``"light"`` or ``"dark"``.
        width: Inches; :data:`~pyrolvm.plots.theme.NARROW` for phones.

    Returns:
        Figure by name, in the order of the page.
    """
    drawn = {}
    for section in SECTIONS:
        try:
            drawn[section.key] = section.draw(tree, theme, width=width)
        except DataError:
            continue
    return drawn
