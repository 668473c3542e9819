"""Ranks of one simulated data set: the truth among a guide's draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pyrolvm.core import Data, LogDensities, evaluating, log_densities
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnostics.calibration import (
    density_levels,
    rank_statistics,
    reference_distances,
)
from pyrolvm.diagnostics.calibration.ranks import NATS
from pyrolvm.inference.calibration.held_guide import densities_at_truth

LOG_JOINT = "log joint"
"""Name of the rank of log p(x, z), which sees guides that ignore the data."""


@dataclass(frozen=True)
class ShardRanks:
    """Ranks of n simulations.

    Args:
        names: Of the S coordinates.
        ranks: Of each coordinate, and of the log joint density last, shape ``(n, S + 1)``.
        varies: Whether a coordinate is more than a constant, shape ``(S,)``.
        levels: Number of draws that are denser under the guide, ``(n,)``; None where the guide
            has no density at the truth.
        distances: Number of draws that are nearer to a random point, ``(n,)``.
        without_density: Why there are no levels.
    """

    names: tuple[str, ...]
    ranks: Int[np.ndarray, "simulation quantity"]
    varies: Bool[np.ndarray, " coordinate"]
    levels: Int[np.ndarray, " simulation"] | None
    distances: Int[np.ndarray, " simulation"]
    without_density: str

    def record(self) -> dict[str, Any]:
        """What a JSON file holds."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> ShardRanks:
        """Read a record back."""
        return cls(
            names=tuple(record["names"]),
            ranks=np.asarray(record["ranks"], int),
            varies=np.asarray(record["varies"], bool),
            levels=None if record["levels"] is None else np.asarray(record["levels"], int),
            distances=np.asarray(record["distances"], int),
            without_density=record["without_density"],
        )


def shard_ranks(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Data,
    truth: Mapping[str, Tensor],
    num_draws: int,
    seed: int,
) -> ShardRanks:
    """Draw from a guide given simulated data, and rank the latents that made these.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: Simulated.
        truth: The latents behind them, by site, in the shapes of a run.
        num_draws: Draws L for each datum.
        seed: Of the draws.
    """
    with own_randomness(seed), evaluating(model, guide):
        rows = data.to(dtype=torch.float64)
        found = densities_at_truth(model, guide, rows, truth)
        drawn = log_densities(model, guide, rows, num_particles=num_draws, keep_values=True)
        at_truth, unknown = found.densities, found.without_density
        names, draws = coordinates(drawn)
        _, true = coordinates(at_truth)
        ranks = rank_statistics(true[0], draws)
        joint = rank_statistics(at_truth.log_joint[0], drawn.log_joint, NATS)
        levels = density_levels(at_truth.log_guide[0], drawn.log_guide)
        return ShardRanks(
            names=names,
            ranks=torch.cat([ranks, joint[:, None]], 1).cpu().numpy(),
            varies=(draws != true).any(0).any(0).cpu().numpy(),
            levels=None if unknown else levels.cpu().numpy(),
            distances=reference_distances(true[0], draws).cpu().numpy(),
            without_density=unknown,
        )


def coordinates(densities: LogDensities) -> tuple[tuple[str, ...], Tensor]:
    """Names of the numbers that make up one datum's latents, and their values.

    Args:
        densities: With values.

    Returns:
        S names, ``z[0]``, ``z[1]``, … or ``z`` for a single number; values ``(K, N, S)``.
    """
    names: list[str] = []
    columns = []
    for name, value in densities.values.items():
        by_datum = value if densities.factorises else value.unsqueeze(1)
        shape = by_datum.shape[2:]
        names += _indexed(name, shape) if shape.numel() > 1 else [name]
        columns.append(by_datum.reshape(*by_datum.shape[:2], -1).double())
    return tuple(names), torch.cat(columns, -1)


def _indexed(name: str, shape: torch.Size) -> list[str]:
    places = product(*map(range, shape))
    return [f"{name}[{','.join(map(str, place))}]" for place in places]
