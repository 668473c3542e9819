"""What is asked of the figures, with the thresholds, the cause and the words of each answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyrolvm.diagnostics.finding import Defect
from pyrolvm.diagnostics.moments import causes, words
from pyrolvm.diagnostics.moments.causes import Causes
from pyrolvm.diagnostics.moments.estimates import LEVELS, Estimates
from pyrolvm.diagnostics.moments.thresholds import Threshold
from pyrolvm.diagnostics.rounding import rounded

if TYPE_CHECKING:
    from pyrolvm.diagnostics.moments.directions import Direction
    from pyrolvm.diagnostics.moments.result import Moments


@dataclass(frozen=True)
class Question:
    """Is a figure further off than it may be, and why?

    Args:
        name: Name of the finding.
        unit: Unit of the figure.
        figure: Values and errors, shape ``(N,)`` or ``(N, S)``.
        side: −1 or 1 where only values of that sign are errors, 0 for both.
        threshold: Where care and where bad begins.
        causes: The defect that each entry shows, should it be an error.
        words: The sentence that says so, without its full stop.
        denial: The sentence that says the opposite, with braces for the figure.
        show: The figure in words, for that sentence.
        comparisons: Figures that each entry is the worst of.
    """

    name: str
    unit: str
    figure: Estimates
    side: int
    threshold: Threshold
    causes: Causes
    words: Callable[[Moments, int, int, Defect], str]
    denial: str
    show: Callable[[float, float], str]
    comparisons: int = 1


def questions(moments: Moments) -> tuple[Question, ...]:
    """All that is asked: modes and correlations, means, widths, directions, shapes."""
    if len(moments.labels.coordinates) == 1:
        joint: tuple[Question, ...] = ()
    else:
        joint = (
            _correlations(moments),
            _furthest(moments),
            _direction(moments, -1, moments.directions.narrowest),
            _direction(moments, 1, moments.directions.widest),
        )
    alone = (_means(moments), _widths(moments, -1), _widths(moments, 1), _shapes(moments))
    return (_modes(moments), *joint[:1], *alone[:3], *joint[1:], *alone[3:])


def _modes(moments: Moments) -> Question:
    figure = Estimates(moments.modes.missed, moments.modes.standard_error)
    return Question(
        name="missed mass",
        unit="share",
        figure=figure,
        side=1,
        threshold=Threshold.MISSED,
        causes=Causes.of(figure.value, "misses a mode"),
        words=words.missed,
        denial="The guide misses no mode that the reference draws have: {} of the posterior lies "
        "in modes that it visits too seldom",
        show=words.share,
    )


def _correlations(moments: Moments) -> Question:
    figure = moments.correlation.estimates
    return Question(
        name="error of a correlation",
        unit="",
        figure=figure,
        side=0,
        threshold=Threshold.CORRELATION,
        causes=Causes.of(
            figure.value,
            "wrong shape",
            ignores_correlation=causes.ignores_correlation(moments),
            misses_a_mode=causes.misses_a_mode(moments),
        ),
        words=words.correlation,
        denial="No correlation is wrong: the largest difference is {}",
        show=rounded,
        comparisons=moments.num_pairs,
    )


def _means(moments: Moments) -> Question:
    figure = moments.mean_error
    missed = causes.misses_a_mode(moments)
    return Question(
        name="error of the mean",
        unit="posterior sd",
        figure=figure,
        side=0,
        threshold=Threshold.SHIFT,
        causes=Causes.of(figure.value, "shifted", misses_a_mode=missed),
        words=words.shift,
        denial="No mean is off: the largest difference is {} posterior standard deviations",
        show=rounded,
    )


def _furthest(moments: Moments) -> Question:
    figure = moments.directions.furthest.estimates
    missed = causes.misses_a_mode(moments)
    return Question(
        name="error of the mean, furthest direction",
        unit="posterior sd",
        figure=figure,
        side=1,
        threshold=Threshold.SHIFT,
        causes=Causes.of(figure.value, "shifted", misses_a_mode=missed),
        words=words.furthest,
        denial="No direction is shifted: along the furthest one the means differ by {} posterior "
        "standard deviations",
        show=rounded,
    )


def _widths(moments: Moments, side: int) -> Question:
    figure, narrow = moments.log_sd_ratio, side < 0
    cause = Causes.of(figure.value, "too wide")
    if narrow:
        cause = Causes.of(
            figure.value,
            "too narrow",
            ignores_correlation=causes.is_conditional_width(moments),
            misses_a_mode=causes.misses_a_mode(moments),
        )
    return Question(
        name=f"log sd ratio, {'narrowest' if narrow else 'widest'} marginal",
        unit="log ratio",
        figure=figure,
        side=side,
        threshold=Threshold.LOG_SD,
        causes=cause,
        words=words.width,
        denial=f"No marginal is too {'narrow' if narrow else 'wide'}: the "
        f"{'narrowest' if narrow else 'widest'} has {{}} times the posterior's standard deviation",
        show=words.ratio,
    )


def _direction(moments: Moments, side: int, direction: Direction) -> Question:
    """An extreme direction: with right marginals, it is wrong for its correlations."""
    figure, narrow = direction.estimates, side < 0
    ignored = causes.ignores_correlation(moments)
    stronger = causes.correlation_is_wrong(moments) & ~ignored
    cause = Causes.of(
        figure.value,
        "too narrow" if narrow else "too wide",
        ignores_correlation=ignored | causes.is_joint(moments, direction.value),
        wrong_shape=stronger,
        misses_a_mode=causes.misses_a_mode(moments),
    )
    return Question(
        name=f"log sd ratio, {'narrowest' if narrow else 'widest'} direction",
        unit="log ratio",
        figure=figure,
        side=side,
        threshold=Threshold.LOG_SD,
        causes=cause,
        words=words.narrowest if narrow else words.widest,
        denial=f"No direction is too {'narrow' if narrow else 'wide'}: along the "
        f"{'narrowest' if narrow else 'widest'} the guide has {{}} times the posterior's standard "
        "deviation",
        show=words.ratio,
    )


def _shapes(moments: Moments) -> Question:
    figure = moments.shape_error
    missed = causes.misses_a_mode(moments)
    return Question(
        name="error of a quantile, mean and sd matched",
        unit="sd",
        figure=figure,
        side=0,
        threshold=Threshold.SHIFT,
        causes=Causes.of(figure.value, "wrong shape", misses_a_mode=missed),
        words=words.shape,
        denial="No marginal has another shape: once mean and width match, quantiles differ by {} "
        "standard deviations at most",
        show=rounded,
        comparisons=len(LEVELS),
    )
