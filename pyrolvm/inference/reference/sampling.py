"""Four chains that go on until they agree, or until a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrolvm.core.latent_space import Points
from pyrolvm.diagnostics.chains import LARGEST_RHAT, SMALLEST_ESS, chain_ess, chain_rhat
from pyrolvm.inference.reference.attempts import NUM_CHAINS, Attempt, attempts_of
from pyrolvm.inference.reference.chains import Chain, Clock, OutOfTimeError
from pyrolvm.inference.reference.forms import Form
from pyrolvm.inference.reference.result import Reference, no_draws

DIVERGENT_SHARE = 0.01
"""Share of diverging trajectories from which draws are not believed."""
SLICE = 50
"""Draws of one chain before the next one's turn, so that a limit leaves all equally long."""
APART = 1.5
"""R-hat of chains that stay in different places."""


@dataclass(frozen=True)
class Limits:
    """How long chains may go on.

    Args:
        num_draws: Draws that are wanted, of all chains together.
        num_warmup: Further draws of each chain, in which step size and mass matrix are learned.
        max_draws: Most draws of all chains together.
        max_seconds: Most seconds, warm-up included.
    """

    num_draws: int
    num_warmup: int
    max_draws: int
    max_seconds: float


class Sampling:
    """Chains over the chosen data, and how they stand.

    Args:
        attempts: Ways to write the posterior, with the starts of chains there, and the acceptance
            probability that they aim at; the next one is taken where many trajectories diverge.
        limits: How long to go on.
        clock: Measures the time.
    """

    def __init__(self, attempts: Sequence[Attempt], limits: Limits, clock: Clock) -> None:
        self.attempts, self.limits, self.clock = attempts, limits, clock
        self.form = attempts[0].form
        self.chains: list[Chain] = []
        self._drawn: list[Tensor] = []

    @property
    def draws(self) -> Tensor:
        """In the coordinates of the program as it is written, ``(chain, draw, N, S)``."""
        return torch.cat(self._drawn, 1)

    @property
    def num_made(self) -> int:
        """Draws of all chains together."""
        return sum(len(part) * part.shape[1] for part in self._drawn)

    @property
    def divergences(self) -> int:
        """Trajectories that diverged after the warm-up."""
        return sum(len(chain.divergences) for chain in self.chains)

    def run(self) -> None:
        """Draw, and begin anew by the next attempt where too many trajectories diverge."""
        for attempt in self.attempts:
            self.form, self._drawn = attempt.form, []
            self.chains = [
                Chain(attempt.slope, start, self.limits.num_warmup, attempt.target, self.clock)
                for start in attempt.starts
            ]
            self._go(2 * SLICE)
            if not self._drawn:
                raise OutOfTimeError
            if not self._diverges():
                self._go_on()
            if not self._diverges() or self.clock.is_over:
                return

    def _go_on(self) -> None:
        """Draw until the chains agree, a limit is reached, or there is no hope."""
        wanted = self.limits.num_draws // len(self.chains)
        while True:
            self._go(wanted - self.num_made // len(self.chains))
            rhat, ess = self.agreement()
            agrees = bool(((rhat < LARGEST_RHAT) & (ess > SMALLEST_ESS)).all())
            hopeless = bool((rhat > APART).any())
            if agrees or hopeless or self._is_at_limit() or self._diverges():
                return
            wanted = min(2 * wanted, self.limits.max_draws // len(self.chains))

    def agreement(self) -> tuple[Tensor, Tensor]:
        """R-hat and effective sample size, shape ``(N, S)`` each."""
        return chain_rhat(self.draws), chain_ess(self.draws)

    def _diverges(self) -> bool:
        return self.divergences > DIVERGENT_SHARE * max(self.num_made, 1)

    def _is_at_limit(self) -> bool:
        return self.clock.is_over or self.num_made >= self.limits.max_draws - len(self.chains)

    def _go(self, num_draws: int) -> None:
        """Let each chain make so many further draws."""
        for start in range(0, num_draws, SLICE):
            size = min(SLICE, num_draws - start)
            parts = [chain.go(size, self.clock) for chain in self.chains]
            if min(map(len, parts)) < size:
                return  # the time is over: chains of unequal length are not kept
            points = torch.stack(parts)
            written = self.form.back(points.flatten(0, 1)).unflatten(0, points.shape[:2])
            self._drawn.append(written)


def sampled(
    forms: Sequence[Form],
    guide_points: Points | None,
    rows: tuple[int, ...],
    limits: Limits,
    clock: Clock,
) -> Reference:
    """Reference draws by NUTS.

    Args:
        forms: Ways to write the posterior, the one of the program first.
        guide_points: Draws of the guide that start half of the chains, ``(K, N, S)``.
        rows: Numbers of the data.
        limits: How long to go on.
        clock: Measures the time.
    """
    names = forms[0].space.names
    try:
        sampling = Sampling(attempts_of(forms, guide_points, clock), limits, clock)
        sampling.run()
    except OutOfTimeError:
        return no_draws(
            names,
            rows,
            f"There is no reference: {NUM_CHAINS} chains of NUTS were not warm after "
            f"{limits.max_seconds:.0f} seconds, which gave {clock.num_draws} draws.",
        )
    rhat, ess = sampling.agreement()
    return Reference(
        draws=_thinned(sampling.draws, limits.num_draws),
        method="NUTS",
        names=names,
        rows=rows,
        rhat=rhat,
        ess=ess,
        num_chains=NUM_CHAINS,
        num_made=sampling.num_made,
        divergences=sampling.divergences,
        seconds=clock.seconds,
        form=sampling.form.name,
        reason=_reason(sampling, rhat, ess, names, rows),
    )


def _thinned(draws: Tensor, num_draws: int) -> Tensor:
    """So many draws at equal distances, chain after chain."""
    each = min(draws.shape[1], num_draws // len(draws))
    kept = torch.linspace(0, draws.shape[1] - 1, each).round().long()
    return draws[:, kept.to(draws.device)].flatten(0, 1)


def _reason(
    sampling: Sampling, rhat: Tensor, ess: Tensor, names: tuple[str, ...], rows: tuple[int, ...]
) -> str:
    """Why the draws are not believed; empty where they are."""
    made, diverged = sampling.num_made, sampling.divergences
    if diverged > DIVERGENT_SHARE * made:
        name = _where_divergent(sampling, names, rows)
        return (
            f"The reference is refused: {diverged} of {made} trajectories of NUTS diverged, "
            f"mostly at unusual values of {name}, even with small steps. The posterior narrows "
            "there like a funnel, and the chains do not enter it."
        )
    where, largest = _worst(rhat, names, rows, torch.max)
    if not largest < LARGEST_RHAT:
        apart = "stay in different places" if largest > APART else "have not met"
        return (
            f"The reference is refused: after {made} draws of NUTS the R-hat of {where} is "
            f"{largest:.3f}, and it should be below {LARGEST_RHAT}: the chains {apart}."
        )
    where, smallest = _worst(ess, names, rows, torch.min)
    if not smallest > SMALLEST_ESS:
        return (
            f"The reference is refused: {made} draws of NUTS are worth {smallest:.0f} "
            f"independent ones of {where}, and it should be more than {SMALLEST_ESS}."
        )
    return ""


def _worst(
    values: Tensor, names: tuple[str, ...], rows: tuple[int, ...], pick: object
) -> tuple[str, float]:
    """Name and figure of the cell with the largest or smallest value; NaN is the worst."""
    sign = 1.0 if pick is torch.max else -1.0
    flat = torch.where(values.isnan(), math.inf, sign * values).flatten()
    cell = int(flat.argmax())
    datum, coordinate = divmod(cell, values.shape[1])
    return _place(names[coordinate], datum, rows), float(values[datum, coordinate])


def _place(name: str, datum: int, rows: tuple[int, ...]) -> str:
    return repr(name) if len(rows) == 1 else f"{name!r} at row {rows[datum]}"


def _where_divergent(sampling: Sampling, names: tuple[str, ...], rows: tuple[int, ...]) -> str:
    """The coordinate whose values at divergent draws are the least usual."""
    draws = sampling.draws
    at = torch.cat(
        [
            draws[number, [step for step in chain.divergences if step < draws.shape[1]]]
            for number, chain in enumerate(sampling.chains)
        ]
    )
    spread = draws.flatten(0, 1)
    score = (at.mean(0) - spread.mean(0)).abs() / spread.std(0)
    return _worst(score, names, rows, torch.max)[0]
