"""Exact posterior against dense grids, side by side: ``python -m benchmarks.exact_posterior``.

Medians over repeats, compilation apart. A grid is timed on a few data and scaled to all of them;
its lines say so. The error of a grid is its largest deviation from the exact log evidence.

Measured on a 2-core EPYC VM (2 threads, load 0.9 to 1.7, torch 2.13, numba 0.68): 1-D, 10,000 data
in 29 ms (grid of error 5e-7: 161 times as long); 2-D, 1,000 data in 35 ms with 8 and 49 ms with 64
observed coordinates (grid of error below 1e-4: over 1,700 times as long); about 1,600 to 1,800
polygons found in 3 ms; evidence and gradient of 100 data in 17 to 29 ms; 1,000 draws for each of
360 data in 17 to 45 ms. A first call without numba's cache compiles for 8 to 14 s.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import numba
import numpy as np
import torch
from torch import Tensor, nn

from pyrolvm.exact import AffineStack, Partition, log_evidence, solve


def trained(latent_dim: int, hidden: tuple[int, ...], obs_dim: int, steps: int) -> AffineStack:
    """Regress a ReLU network to a smooth manifold; noise = what the regression leaves + 0.03."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = latent_dim
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    module = nn.Sequential(*layers, nn.Linear(width, obs_dim)).double()
    waves = torch.randn(latent_dim, obs_dim, dtype=torch.float64)
    tilt = torch.randn(latent_dim, obs_dim, dtype=torch.float64)
    optimiser = torch.optim.Adam(module.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loss = torch.zeros(())
    for _ in range(steps):
        z = torch.randn(512, latent_dim, dtype=torch.float64)
        target = torch.sin(z @ waves / latent_dim**0.5) + 0.3 * z @ tilt
        loss = (module(z) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    module.requires_grad_(False)
    return AffineStack.from_sequential(module, float(loss.detach().sqrt()) + 0.03)


def observe(stack: AffineStack, size: int) -> Tensor:
    """Draw data from the generator."""
    z = torch.randn(size, stack.latent_dim, dtype=torch.float64)
    mean = stack.forward(z)
    return mean + stack.noise_scale * torch.randn_like(mean)


def median_seconds(task: Callable[[], object], repeats: int) -> float:
    """Median wall time of a task."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def grid_nodes(stack: AffineStack, points: int) -> tuple[Tensor, Tensor, Tensor]:
    """Equidistant nodes on [-6, 6]^S with g at them and the log of prior times cell."""
    axis = torch.linspace(-6, 6, points, dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * stack.latent_dim).reshape(-1, stack.latent_dim)
    cell = stack.latent_dim * math.log(12 / (points - 1))
    log_prior = -0.5 * z.square().sum(1) - 0.5 * stack.latent_dim * math.log(2 * math.pi)
    return z, stack.forward(z), log_prior + cell


def grid_evidence(stack: AffineStack, x: Tensor, nodes: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Log evidence, mean and covariance on a grid, with one GEMM a chunk."""
    z, g, log_prior = nodes
    y, f = x / stack.noise_scale, g / stack.noise_scale
    constant = stack.noise_scale.log().sum() + 0.5 * stack.obs_dim * math.log(2 * math.pi)
    offset = log_prior - 0.5 * f.square().sum(1)
    outer = (z[:, :, None] * z[:, None, :]).reshape(len(z), -1)
    pieces = []
    for rows in y.split(max(1, 4_000_000 // len(z))):
        level = rows @ f.mT + offset
        log_p = torch.logsumexp(level, 1)
        share = (level - log_p[:, None]).exp()
        mean = share @ z
        _ = share @ outer - (mean[:, :, None] * mean[:, None, :]).reshape(len(mean), -1)
        pieces.append(log_p - 0.5 * rows.square().sum(1) - constant)
    return torch.cat(pieces)


def everything(stack: AffineStack, x: Tensor) -> None:
    """Partition, evidence, mean and covariance from nothing."""
    posterior = solve(stack, x)
    _ = posterior.log_evidence, posterior.mean, posterior.covariance


def against_grid(
    name: str, stack: AffineStack, size: int, subset: int, grids: tuple[int, ...], wanted: float
) -> None:
    """Time the exact engine on all data, grids of rising size on a subset, scaled."""
    x = observe(stack, size)
    start = time.perf_counter()
    everything(stack, x[:2])
    first = time.perf_counter() - start
    seconds = median_seconds(lambda: everything(stack, x), 7)
    posterior = solve(stack, x)
    print(
        f"\n{name}: noise {stack.noise_scale[0]:.3f}, {posterior.num_regions} regions, {size} data"
        f"\n  exact: {seconds * 1e3:.1f} ms (partition + evidence + mean + covariance; "
        f"{posterior.num_pairs} integrals; first call {first:.2f} s)"
    )
    for points in grids:
        nodes = grid_nodes(stack, points)
        part = x[:subset]
        repeats = 3 if points**stack.latent_dim < 10**6 else 1
        spent = median_seconds(partial(grid_evidence, stack, part, nodes), repeats)
        found = grid_evidence(stack, part, nodes)
        error = (found - posterior.log_evidence[:subset]).abs().max().item()
        scaled = spent * size / subset
        mark = "  <- first at the wanted error" if error <= wanted else ""
        print(
            f"  grid {points}^{stack.latent_dim}: error {error:.1e} nats, {scaled:.2f} s "
            f"(timed on {subset} data, scaled), {scaled / seconds:.0f}x the exact time{mark}"
        )
        if error <= wanted:
            break


def parts(stack: AffineStack, size: int) -> None:
    """Time the parts: partition, kept partition, gradient, draws, log density."""
    x = observe(stack, size)
    partition = Partition.of(stack)
    posterior = solve(stack, x)
    leaves = tuple(weight.clone().requires_grad_() for weight in stack.weights)
    live = AffineStack(
        leaves,
        stack.biases,
        stack.slopes,
        stack.noise_scale,
        stack.prior_loc,
        stack.prior_scale_tril,
    )
    few = x[:360]
    small = solve(stack, few)
    draws = small.sample(1000)
    tasks: dict[str, Callable[[], object]] = {
        f"partition ({partition.num_regions} regions)": lambda: Partition.of(stack),
        f"solve {size} with kept partition": lambda: solve(stack, x, partition=partition).mean,
        "evidence and gradient of a minibatch of 100": lambda: (
            log_evidence(live, x[:100]).sum().backward()
        ),
        "1000 draws for each of 360 data": lambda: small.sample(1000),
        "log density of these 360,000 points": lambda: small.log_prob(draws),
    }
    print(f"  mean lost mass {posterior.lost_mass.mean():.0e}")
    for name, task in tasks.items():
        task()
        print(f"  {name}: {median_seconds(task, 5) * 1e3:.1f} ms")


def main() -> None:
    """Print the table."""
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, "
        f"numba {numba.__version__}, numpy {np.__version__}, "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.2f}"
    )
    line = trained(1, (64, 64), 2, 1000)
    grids = (500, 2000, 8000, 32000, 128_000)
    against_grid("1-D, 2x64 ReLU, 2 observed", line, 10_000, 200, grids, 1e-6)
    parts(line, 10_000)
    for obs_dim in (8, 64):
        plane = trained(2, (32, 32), obs_dim, 1000)
        name = f"2-D, 2x32 ReLU, {obs_dim} observed"
        against_grid(name, plane, 1000, 10, (200, 600, 1500, 2500), 1e-4)
        parts(plane, 1000)
    print(f"\nload at the end {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
