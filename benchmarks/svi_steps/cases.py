"""The programs whose steps are timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.infer
import torch
from torch import Tensor

from benchmarks.svi_steps.belief_net import BeliefNet
from benchmarks.svi_steps.hierarchy import Hierarchy
from benchmarks.svi_steps.vae import VAE
from pyrolvm.objectives import ReweightedWakeSleep

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """One program.

    Args:
        title: What it is, in words.
        networks: Makes its networks, with ``model``, ``guide`` and a loss by hand.
        obs_dim: Dimension of x.
        batch_size: Rows of a step.
        is_binary: Whether x is of zeros and ones.
        num_particles: Draws for each datum, 1 for the ELBO.
        unroll: Steps of a call where several are compiled into one; 1 where this gains nothing.
        target: What a compiled step shall take, relative to the eager one by hand.
    """

    title: str
    networks: Callable[[], Any]
    obs_dim: int
    batch_size: int
    is_binary: bool = True
    num_particles: int = 1
    unroll: int = 1
    target: float | None = None

    def batch(self) -> Tensor:
        """Return rows of x, the same ones every time."""
        generator = torch.Generator().manual_seed(0)
        if self.is_binary:
            return (torch.rand(self.batch_size, self.obs_dim, generator=generator) < 0.3).float()
        return torch.randn(self.batch_size, self.obs_dim, generator=generator)

    def our_loss(self) -> Any:
        """The objective as PyroLVM has it."""
        if self.num_particles > 1:
            return ReweightedWakeSleep(self.num_particles, wake_phi=1.0, sleep_phi=0.0)
        return pyro.infer.Trace_ELBO()

    def pyro_loss(self) -> Any:
        """The objective as Pyro has it.

        Its wake-sleep takes one weight for a draw of the whole batch instead of one for each
        datum; the work is the same.
        """
        if self.num_particles > 1:
            return pyro.infer.ReweightedWakeSleep(
                self.num_particles, vectorize_particles=True, max_plate_nesting=1
            )
        return pyro.infer.Trace_ELBO()


CASES = {
    "tiny-vae": Case(
        "tiny VAE: x in R², 2×32 hidden, z in R², batch 128",
        lambda: VAE(2, (32, 32), 2, is_gaussian=True), 2, 128, is_binary=False, unroll=10,
        target=0.25,
    ),
    "vae-128": Case(
        "VAE 784-400-20, batch 128",
        lambda: VAE(784, (400,), 20, is_gaussian=False), 784, 128, target=0.90,
    ),
    "vae-512": Case(
        "VAE 784-400-20, batch 512",
        lambda: VAE(784, (400,), 20, is_gaussian=False), 784, 512,
    ),
    "hierarchical-vae": Case(
        "3-layer VAE 784, z 32/16/8, hidden 256/128/64, batch 128",
        lambda: Hierarchy(784, (32, 16, 8), (256, 128, 64)), 784, 128, target=0.72,
    ),
    "belief-net": Case(
        "belief net 784-200-200-200, K = 10, batch 128",
        lambda: BeliefNet((784, 200, 200, 200), 10), 784, 128, num_particles=10, target=0.70,
    ),
    "small-belief-net": Case(
        "belief net 123-100-70-50-25, K = 10, batch 128",
        lambda: BeliefNet((123, 100, 70, 50, 25), 10), 123, 128, num_particles=10, target=0.75,
    ),
}  # fmt: skip
"""By the name that the command takes."""
