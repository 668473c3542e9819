"""What a pair of the collection is: plain Pyro programs, their data, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor


@dataclass(frozen=True)
class Program:
    """A model, a guide and data, as their author would write them.

    Args:
        model: A Pyro program.
        guide: Another, untrained.
        data: A tensor, a mapping from argument name to value, or None for no arguments.
        outside: The latent site outside the plate "data" that makes the data set one datum; None
            where each datum has a posterior of its own.
        summed_out: Discrete sites that the guide leaves to be summed out.
        log_evidence: Log p(x) in nats where it is known.
        steps: Training steps that do for a smoke test, a second or less.
        learning_rate: Of Adam.
        loss: What plain Pyro trains the guide with.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    data: Tensor | Mapping[str, Any] | None
    outside: str | None = None
    summed_out: tuple[str, ...] = ()
    log_evidence: float | None = None
    steps: int = 100
    learning_rate: float = 0.02
    loss: Callable[..., Any] = Trace_ELBO

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments, as plain Pyro takes them."""
        if self.data is None:
            return (), {}
        return ((self.data,), {}) if isinstance(self.data, Tensor) else ((), dict(self.data))

    def train(self, steps: int | None = None) -> Program:
        """Train model parameters and guide with plain Pyro."""
        args, named = self.arguments()
        loss = TraceEnum_ELBO(max_plate_nesting=2) if self.summed_out else self.loss()
        svi = SVI(self.model, self.guide, Adam({"lr": self.learning_rate}), loss)
        with pyro.validation_enabled(False):
            for _ in range(self.steps if steps is None else steps):
                svi.step(*args, **named)
        return self


def generator(seed: int) -> torch.Generator:
    """A stream of random numbers for making data, the same in every process."""
    return torch.Generator().manual_seed(seed)
