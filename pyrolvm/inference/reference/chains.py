"""Pyro's No-U-Turn sampler on the latent space of a program, driven in blocks.

Where the posterior factorises, one chain moves all chosen data at once: its target is the product
of their posteriors, and one evaluation of the program serves every datum.

References:
    Hoffman & Gelman (2014), The No-U-Turn Sampler.
    Betancourt (2018), A Conceptual Introduction to Hamiltonian Monte Carlo.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pyro
import torch
from pyro.infer import NUTS
from torch import Tensor

from pyrolvm.inference.reference.mass_matrix import POINTS, RowBlocks
from pyrolvm.inference.reference.potential import Slope, potential_of

MAX_TREE_DEPTH = 10


class OutOfTimeError(Exception):
    """The time limit passed before the chains were warm."""


@dataclass
class Clock:
    """A time limit, and who is told of each draw.

    Args:
        limit: Seconds.
        report: Called after each draw, warm-up included.
        num_draws: Draws so far.
    """

    limit: float
    report: Callable[[], object] = lambda: None
    num_draws: int = 0
    start: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Count a draw."""
        self.num_draws += 1
        self.report()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.start

    @property
    def is_over(self) -> bool:
        """Whether the limit has passed."""
        return self.seconds > self.limit


class Chain:
    """One chain over the chosen data, warmed up.

    Args:
        slope: Log joint density and gradient.
        start: Shape ``(N, S)``.
        warmup: Draws of the warm-up, in which step size and mass matrix are learned.
        target_accept: Acceptance probability that the step size aims at: the nearer to 1, the
            smaller the steps.
        clock: Ends the warm-up.

    Raises:
        OutOfTimeError: If the limit passes during the warm-up.
    """

    def __init__(
        self, slope: Slope, start: Tensor, warmup: int, target_accept: float, clock: Clock
    ) -> None:
        self.kernel = NUTS(
            potential_fn=potential_of(slope),
            target_accept_prob=target_accept,
            max_tree_depth=MAX_TREE_DEPTH,
        )
        self.kernel.mass_matrix_adapter = RowBlocks((start.shape[0], start.shape[1]))
        self.kernel.initial_params = {POINTS: start.clone()}
        self._params = self.kernel.initial_params
        with pyro.validation_enabled(False):
            self.kernel.setup(warmup)
        for _ in range(warmup):
            if clock.is_over:
                raise OutOfTimeError
            self._draw(clock)

    def go(self, num_draws: int, clock: Clock) -> Tensor:
        """Draw on, shape ``(draws, N, S)``; fewer than asked for where the time is over."""
        draws: list[Tensor] = []
        while len(draws) < num_draws and not clock.is_over:
            draws.append(self._draw(clock))
        return torch.stack(draws) if draws else self._params[POINTS].new_empty(0)

    @property
    def divergences(self) -> list[int]:
        """Numbers of the draws whose trajectory diverged."""
        return list(self.kernel.diagnostics()["divergences"])

    def _draw(self, clock: Clock) -> Tensor:
        with pyro.validation_enabled(False):
            self._params = self.kernel.sample(self._params)
        clock.tick()
        return self._params[POINTS].detach().clone()
