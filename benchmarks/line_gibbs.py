"""Cost of a line update, and what chains of them yield: ``python -m benchmarks.line_gibbs``.

Random ReLU generators with two hidden layers; 4 data of 4 chains, process time, compilation apart;
the effective sample size (ESS) is that of the worst coordinate. A draw is one sweep: an update for
each latent dimension, and one more along a difference of states.

Measured on 2 cores (one thread, load 7 to 10 from other work, torch 2.13, numba 0.68), D = 20 and
widths 8 to 128: slopes against the number of hidden units, for 2, 5, 10 and 20 latents, of pieces
1.02, 0.99, 1.05 and 1.06 (one generator each), of time 1.40, 1.35, 1.37 and 1.34. Over six
generators and widths of 32 to 256 the slope of pieces is 1.00 ± 0.01 for 2, 5 and 10 latents and
1.02 ± 0.02 for 20, at 0.94, 0.87, 0.81 and 0.74 pieces a unit throughout. An update
takes 7 to 8 us at width 8 and 290 to 360 us at width 128, which is 25 to 35 and 115 to 160 forward
passes. What the warm-up learns makes ESS a second 12 times (5 latents) and 21 times (10 latents)
that of uniform directions. Narrow networks under 10 and 20 latents have posteriors with modes that
chains of this length do not join (R-hat up to 3): a look at R-hat is part of the method.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from pyrolvm.diagnostics.chains import chain_ess, chain_rhat
from pyrolvm.exact import AffineStack
from pyrolvm.exact.lines import LineChains

CHAINS, DATA = 4, 4
WARMUP = 100


@dataclass(frozen=True)
class Cost:
    """What one generator's chains cost and yield."""

    neurons: int
    pieces: float
    microseconds: float
    forward: float


def generator(
    latent_dim: int, width: int, obs_dim: int, activation: str = "relu", seed: int = 0
) -> AffineStack:
    """Random network with two hidden layers, noise of a tenth of its output."""
    torch.manual_seed(1000 * seed + latent_dim)
    kinds: dict[str, Callable[[], nn.Module]] = {
        "relu": nn.ReLU,
        "leaky_relu": lambda: nn.LeakyReLU(0.1),
    }
    sizes = (latent_dim, width, width)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), kinds[activation]()]
    module = nn.Sequential(*layers, nn.Linear(width, obs_dim)).double().requires_grad_(False)
    for parameter in module.parameters():
        bound = 1.7 / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else 0.7
        parameter.uniform_(-bound, bound)
    spread = module(torch.randn(1000, latent_dim).double()).std(0).mean().item()
    return AffineStack.from_sequential(module, 0.1 * spread)


def observe(stack: AffineStack, size: int) -> Tensor:
    """Draw data from the generator."""
    mean = stack.forward(torch.randn(size, stack.latent_dim).double())
    return mean + stack.noise_scale * torch.randn_like(mean)


def forward_microseconds(stack: AffineStack) -> float:
    """Time of a forward pass of the same generator, compiled by the same means."""
    from pyrolvm.exact.lines.conditional_kernel import make_room
    from pyrolvm.exact.lines.problem import line_problem
    from pyrolvm.exact.lines.sweep_kernel import forward

    @njit
    def repeat(count, point, net, room):  # type: ignore[no-untyped-def]
        for _ in range(count):
            forward(point, net, room.start, room.hidden, room.output)

    net, point, count = line_problem(stack).net, np.full(stack.latent_dim, 0.1), 5000
    room = make_room(net)
    repeat(1, point, net, room)
    start = time.process_time()
    repeat(count, point, net, room)
    return 1e6 * (time.process_time() - start) / count


def cost(latent_dim: int, width: int, obs_dim: int, updates: int) -> Cost:
    """Pieces and time of an update, and effective draws a second."""
    stack = generator(latent_dim, width, obs_dim)
    chains = LineChains.start(stack, observe(stack, DATA), CHAINS, 0)
    chains.warm_up(WARMUP)
    before = chains.updates, chains.pieces
    num = max(25, updates // (CHAINS * DATA * (latent_dim + 1)))
    start = time.process_time()
    draws = torch.from_numpy(chains.draw(num))
    seconds = time.process_time() - start
    done, met = chains.updates - before[0], chains.pieces - before[1]
    found = Cost(2 * width, met / done, 1e6 * seconds / done, forward_microseconds(stack))
    ess = chain_ess(draws).min(-1).values.log().mean().exp().item()
    print(
        f"  {latent_dim:3d}  {width:5d}  {obs_dim:3d}  {found.pieces:6.1f}  "
        f"{found.pieces / found.neurons:9.2f}  {found.microseconds:9.1f}  "
        f"{found.microseconds / found.forward:11.0f}  {ess / (CHAINS * num):11.2f}  "
        f"{DATA * ess / seconds:8.0f}  {chain_rhat(draws).max():.3f}",
        flush=True,
    )
    return found


def slope(costs: list[Cost], values: list[float]) -> float:
    """Least-squares slope of log value against log neurons."""
    neurons = [math.log(each.neurons) for each in costs]
    return float(np.polyfit(neurons, np.log(values), 1)[0])


def pieces(latent_dim: int, widths: tuple[int, ...], generators: int) -> None:
    """Slope of pieces a line against hidden units, with its standard error over generators."""
    units = np.log([2 * width for width in widths])
    found = np.empty((generators, len(widths)))
    for seed in range(generators):
        for column, width in enumerate(widths):
            stack = generator(latent_dim, width, 20, seed=seed)
            chains = LineChains.start(stack, observe(stack, 3), 2, 0)
            chains.warm_up(8)
            before = chains.updates, chains.pieces
            chains.draw(5)
            found[seed, column] = (chains.pieces - before[1]) / (chains.updates - before[0])
    slopes = np.array([np.polyfit(units, np.log(row), 1)[0] for row in found])
    error = slopes.std(ddof=1) / generators**0.5
    shares = ", ".join(f"{share:.2f}" for share in (found / np.exp(units)).mean(0))
    print(
        f"  S = {latent_dim}, widths {widths}, {generators} generators: slope of pieces "
        f"{slopes.mean():.2f} ± {error:.2f}; pieces a neuron {shares}",
        flush=True,
    )


def directions(latent_dim: int, width: int, obs_dim: int, num: int) -> None:
    """Effective draws a second with all directions, and without what the warm-up learned."""
    logs: dict[str, list[float]] = {"learned": [], "no differences": [], "uniform": []}
    for activation in ("relu", "leaky_relu"):
        stack = generator(latent_dim, width, obs_dim, activation)
        started = LineChains.start(stack, observe(stack, 3), CHAINS, 0)
        started.warm_up(2 * WARMUP)
        for kind in logs:
            chains = started.copy()
            if kind != "learned":
                chains.archives = chains.archives[:, :0]
            if kind == "uniform":
                eye = np.eye(latent_dim)
                chains.factors = np.ascontiguousarray(np.broadcast_to(eye, chains.factors.shape))
            start = time.process_time()
            draws = torch.from_numpy(chains.draw(num))
            seconds = time.process_time() - start
            logs[kind] += (chain_ess(draws).min(-1).values / seconds).log().tolist()
    best = {kind: math.exp(np.mean(found)) for kind, found in logs.items()}
    ratios = ", ".join(f"{k} {v / best['uniform']:.1f}" for k, v in best.items())
    print(f"  S = {latent_dim}, width {width}: ratios to uniform directions: {ratios}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few updates and small networks")
    smoke = parser.parse_args().smoke
    updates, widths = (400, (8, 16)) if smoke else (6000, (8, 16, 32, 64, 128))
    torch.set_num_threads(1)
    versions = f"torch {torch.__version__}, numba {numba.__version__}"
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"
    print(f"{platform.processor() or platform.machine()}, {load}, {versions}")
    print("    S  width    D  pieces  a neuron  us/update  in forwards  ESS/draw   ESS/s  R-hat")
    for latent_dim in (2,) if smoke else (2, 5, 10, 20):
        costs = [cost(latent_dim, width, 20, updates) for width in widths]
        met = slope(costs, [each.pieces for each in costs])
        seconds = slope(costs, [each.microseconds for each in costs])
        print(f"  S = {latent_dim}, D = 20: slope of pieces {met:.2f}, of time {seconds:.2f}")
    for latent_dim in (2,) if smoke else (2, 5, 10, 20):
        pieces(latent_dim, (8, 16) if smoke else (32, 64, 128, 256), 2 if smoke else 6)
    for latent_dim, width in ((3, 8),) if smoke else ((5, 16), (10, 32)):
        directions(latent_dim, width, 20, 30 if smoke else 300)
    print(f"load at the end {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
