"""The simulations of a calibration, shard by shard, each from seeds of its own.

A shard is one simulated data set, or for amortized guides one with some of the rows. Shards do not
know of each other: they may run in any order, on any machine, and again after a kill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, is_dataclass
from types import FunctionType
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import Data
from pyrolvm.core.checkpoint import tensor_digest
from pyrolvm.core.program_state import program_state
from pyrolvm.inference.calibration.refitting import Refit, given_back
from pyrolvm.inference.calibration.shard import shard_ranks
from pyrolvm.inference.simulation import simulate

Simulate: TypeAlias = Callable[[int], tuple[Mapping[str, Tensor], Any]]
"""``simulate(seed)`` returns latents from the prior, by site, and the data that they made."""

ROWS_IN_SHARD = 250
"""Rows that an amortized guide is asked about at once."""


@dataclass(frozen=True)
class Shards:
    """What the shards of one calibration have in common.

    Args:
        model: A Pyro program.
        guide: A Pyro program; its copy is fitted anew in every shard where ``refit`` is given.
        data: Sizes and covariates.
        num_simulations: Simulations wanted, over all shards.
        num_draws: Draws of the guide for each.
        seed: From which all seeds are made.
        takes_any_rows: Whether a shard may hold some of the rows.
        rows: Simulations in one data set: its rows, or 1 where it is a single datum.
        refit: How the guide is fitted to a shard's data; None keeps it.
        simulate: The user's own way to simulate.
    """

    model: Any
    guide: Any
    data: Data
    num_simulations: int
    num_draws: int
    seed: int
    takes_any_rows: bool
    rows: int
    refit: Refit | None
    simulate: Simulate | None

    def __len__(self) -> int:
        return math.ceil(self.num_simulations / self._simulations_in_shard)

    @property
    def _simulations_in_shard(self) -> int:
        if self.takes_any_rows and self.simulate is None:
            return min(self.rows, ROWS_IN_SHARD)
        return self.rows

    def facts(self) -> dict[str, Any]:
        """What tells this calibration from others; JSON holds it."""
        return {
            "num_draws": self.num_draws,
            "seed": self.seed,
            "rows_in_shard": self._simulations_in_shard,
            "data": tensor_digest(self.data.items()),
            "pair": tensor_digest(program_state(self.model, self.guide).items()),
            "programs": [_described(part) for part in (self.model, self.guide)],
            "how": [_described(part) for part in (self.refit, self.simulate)],
        }

    def run(self, index: int) -> dict[str, Any]:
        """Ranks of one shard, as a record that JSON holds."""
        draw, fit, guess = (
            int(each) for each in np.random.SeedSequence((self.seed, index)).generate_state(3)
        )
        truth, data = self._simulated(index, draw)
        with nullcontext() if self.refit is None else given_back(self.guide):
            guide = self.guide if self.refit is None else self.refit(self.model, data, fit)
            found = shard_ranks(self.model, guide, data, truth, self.num_draws, guess)
        return found.record()

    def _simulated(self, index: int, seed: int) -> tuple[Mapping[str, Tensor], Data]:
        if self.simulate is not None:
            truth, data = self.simulate(seed)
            return {n: v.double() for n, v in truth.items()}, Data.of(data)
        made = simulate(self.model, self._chosen(index), seed, guide=self.guide)
        return made.in_trace, as_given(made.data, self.data)

    def _chosen(self, index: int) -> Data:
        """Rows of a shard: the data again and again, each time in another order."""
        size = self._simulations_in_shard
        if not self.takes_any_rows or size == self.data.num_rows:
            return self.data
        places = [divmod(at, self.data.num_rows) for at in range(index * size, (index + 1) * size)]
        orders = {turn: self._order(turn) for turn, _ in places}
        chosen = [orders[turn][at] for turn, at in places]
        return self.data.rows(torch.tensor(chosen, device=self.data.device))

    def _order(self, turn: int) -> np.ndarray:
        return np.random.default_rng((self.seed, turn)).permutation(self.data.num_rows)


def as_given(made: Data, given: Data) -> Data:
    """Bring simulated data into the types of the given ones, in which a guide is trained."""
    types = {name: tensor.dtype for name, tensor in given.items()}
    named = {n: v.to(types[n]) if n in types else v for n, v in made.named.items()}
    return Data(None if made.positional is None else made.positional.to(types["x"]), named)


def _described(part: Any) -> Any:
    """What a program is, beside its parameters: its code, or its class and plain settings."""
    if isinstance(part, FunctionType):
        return [part.__qualname__, part.__code__.co_code.hex(), repr(part.__code__.co_names)]
    kept = {}
    if isinstance(part, nn.Module) or is_dataclass(part):
        kept = {
            name: repr(value)
            for name, value in vars(part).items()
            if isinstance(value, int | float | str | tuple)
            and not name.startswith("_")
            and name != "training"
        }
    return [type(part).__qualname__, kept]


class Runner(Protocol):
    """Runs every shard once, and returns their records in order."""

    def __call__(self, shards: Shards, progress: bool) -> list[dict[str, Any]]:
        """Run shards."""
        ...


def run_here(shards: Shards, progress: bool) -> list[dict[str, Any]]:
    """Run shards one after another in this process."""
    order = range(len(shards))
    return [shards.run(index) for index in tqdm(order, "calibrate", disable=not progress)]
