"""Ways to run the chains of a reference, the most promising first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pyrolvm.core.latent_space import Points
from pyrolvm.inference.reference.chains import Chain, Clock
from pyrolvm.inference.reference.forms import Form
from pyrolvm.inference.reference.potential import Slope, recorded_slope
from pyrolvm.inference.reference.starts import flattened_draws, overdispersed_starts

NUM_CHAINS = 4
TARGET = 0.8
SMALL_STEPS = (0.95, 0.99)
"""Acceptance probabilities of further attempts, one after another, while trajectories diverge."""
PILOT_DRAWS = 50


@dataclass(frozen=True)
class Attempt:
    """One way to run the chains.

    Args:
        form: The coordinates in which they move.
        slope: Log joint density and gradient there.
        starts: Shape ``(chain, N, S)``.
        target: Acceptance probability that the step size aims at.
    """

    form: Form
    slope: Slope
    starts: Points
    target: float


def attempts_of(forms: Sequence[Form], guide_points: Points | None, clock: Clock) -> list[Attempt]:
    """Every form by steps of the usual size, the cheaper one first, and that one by small steps.

    Args:
        forms: Ways to write the posterior, the one of the program first.
        guide_points: Draws of the guide, ``(K, N, S)``, that start half of the chains where they
            move as the program is written.
        clock: Ends pilot runs.

    Raises:
        OutOfTimeError: If the limit passes during pilot runs.
    """
    written, *others = forms
    starts = [overdispersed_starts(written.space, NUM_CHAINS, guide_points)]
    starts += [flattened_draws(form.space, NUM_CHAINS) for form in others]
    attempts = [
        Attempt(form, recorded_slope(form.space, each), each, TARGET)
        for form, each in zip(forms, starts, strict=True)
    ]
    if others:
        attempts.sort(key=lambda attempt: _pilot_cost(attempt, clock))
    first = attempts[0]
    return attempts + [
        Attempt(first.form, first.slope, first.starts, target) for target in SMALL_STEPS
    ]


def _pilot_cost(attempt: Attempt, clock: Clock) -> int:
    """Evaluations that a short warm-up takes: many where the posterior is a funnel."""
    count = 0

    def counting(points: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        return attempt.slope(points)

    Chain(counting, attempt.starts[0], PILOT_DRAWS, attempt.target, clock)
    return count
