"""Draws of p* and of its hidden places, from many two-replica chains at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyrolvm.inference.pstar.replicas import ReplicaState, TwoReplicaSampler, run_in_blocks

Bar = Callable[[str, int], Any]
"""Makes a progress bar of a text and a total."""


def sampling_chains(
    model: Any,
    guide: Any,
    size: int,
    sweeps: int,
    num_candidates: int,
    num_chains: int,
    thinning: int,
    bar: Bar,
) -> Tensor:
    """Run chains from p to p* and keep draws of x; see :meth:`pyrolvm.PStar.sample`.

    Returns:
        Shape ``(size, obs_dim)``.
    """
    sampler = TwoReplicaSampler(model, guide, num_candidates)
    draws_each = math.ceil(size / num_chains)
    total = sweeps + thinning * (draws_each - 1)
    with bar("chains of p*", total * num_chains) as shown:

        def go(state: ReplicaState, block: slice) -> Tensor:
            kept = []
            for sweep in range(1, total + 1):
                sampler.sweep(state)
                shown.update(block.stop - block.start)
                if sweep >= sweeps and (sweep - sweeps) % thinning == 0:
                    kept.append(state.x)
            return torch.stack(kept)

        def start(block: slice) -> ReplicaState:
            return sampler.ancestral(block.stop - block.start)

        kept = torch.cat(run_in_blocks(sampler, num_chains, start, go), 1)
    return kept.flatten(0, 1)[:size]


def inpainting_chains(
    model: Any,
    guide: Any,
    x: Tensor,
    mask: Tensor,
    num_chains: int,
    sweeps: int,
    num_candidates: int,
    bar: Bar,
) -> Tensor:
    """Run chains over the hidden places of x; see :meth:`pyrolvm.PStar.inpaint`.

    Returns:
        Shape ``(num_chains, N, obs_dim)``.
    """
    sampler = TwoReplicaSampler(model, guide, num_candidates)
    given = x.repeat(num_chains, 1)
    free = ~mask.repeat(num_chains, 1)
    with bar("inpainting", sweeps * len(given)) as shown:

        def start(block: slice) -> ReplicaState:
            dreamt = sampler.ancestral(block.stop - block.start).x
            return sampler.inferred(torch.where(free[block], dreamt, given[block]))

        def go(state: ReplicaState, block: slice) -> Tensor:
            for _ in range(sweeps):
                sampler.sweep(state, free[block])
                shown.update(block.stop - block.start)
            return state.x

        drawn = torch.cat(run_in_blocks(sampler, len(given), start, go))
    return drawn.reshape(num_chains, *x.shape)
