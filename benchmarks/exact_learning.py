"""Exact learning, side by side with others: ``python -m benchmarks.exact_learning``.

CPU seconds on one thread, compilation apart. The loop pair by pair is timed on 20 data and scaled.
Every method of the table starts from the same weights; six seeds, 500 data, noise 0.1.

Measured on a 2-core VM under load 5.5 to 8 (others' work; torch 2.13, numba 0.68): E-step with its
sums of 1,000 data under one latent and 33 regions in 8 to 9 ms, pair by pair with scipy 43 to 51 s
(over 5,000 times as long); 500 data at 579 polygons in 160 to 170 ms; 784 observed coordinates 1.7
times the time of 16, and 1.1 times once the data are reduced, as in a hidden layer's line search;
peak memory 73 MiB above the data with 10,000 and with 100,000 data at 579 polygons. Medians of the
training NLL (nats per datum) and CPU seconds:

=================  ==============  ==============  ==============  ==============
method             circle (8,)     circle (8, 8)   wave (8,)       wave (8, 8)
=================  ==============  ==============  ==============  ==============
safeguarded EM     0.992, 1.0 s    0.928, 1.8 s    0.917, 1.0 s    0.875, 1.6 s
exact L-BFGS       1.074, 1.0 s    0.969, 1.2 s    0.845, 0.7 s    0.828, 1.0 s
VAE, rate 5e-3     2.160, 10.2 s   2.160, 11.3 s   1.068, 6.1 s    0.936, 6.8 s
=================  ==============  ==============  ==============  ==============
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.datasets import synthetic
from pyrolvm.exact import AffineStack, Partition
from pyrolvm.exact.learning.expectation_step import expectation_step

SEEDS = range(6)
SETTINGS = [(name, hidden) for name in ("circle", "wave") for hidden in ((8,), (8, 8))]


def network(latent_dim: int, hidden: tuple[int, ...], obs_dim: int, noise: float) -> AffineStack:
    """Glorot weights, standard normal biases, leaky ReLU, seed 0."""
    torch.manual_seed(0)
    model = models.CPAGenerator(latent_dim, obs_dim, hidden, noise, "leaky_relu")
    _initialise(model)
    stack = model.double().requires_grad_(False).affine_stack
    return AffineStack.of(stack)


def _initialise(model: models.CPAGenerator) -> None:
    for layer in model.decoder:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias)


def observe(stack: AffineStack, size: int) -> np.ndarray:
    """Draw data from the generator."""
    random = torch.Generator().manual_seed(1)
    z = torch.randn(size, stack.latent_dim, generator=random, dtype=torch.float64)
    noise = torch.randn(size, stack.obs_dim, generator=random, dtype=torch.float64)
    return (stack.forward(z) + stack.noise_scale * noise).numpy()


def median_time(run: Callable[[], object], repeats: int = 5) -> float:
    """Median CPU seconds, after one call that compiles."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def pair_by_pair(stack: AffineStack, x: np.ndarray) -> np.ndarray:
    """Log evidence and moments by a loop over data and regions, four calls to scipy a pair.

    A truncated normal for each pair, as one writes it first; one latent, prior N(0, 1).
    """
    edges = Partition.of(stack).edges
    middles = np.clip((edges[1:] + edges[:-1]) / 2, edges[1] - 1, edges[-2] + 1)
    z = torch.from_numpy(np.stack([middles, middles + 1e-7], 1))[:, :, None]
    value = stack.forward(z).numpy()
    slopes = (value[:, 1] - value[:, 0]) / 1e-7
    offsets = value[:, 0] - slopes * middles[:, None]
    scale = stack.noise_scale.numpy()
    found = np.empty(len(x))
    for n, row in enumerate(x):
        total = 0.0
        for r in range(len(slopes)):
            precision = 1 + ((slopes[r] / scale) ** 2).sum()
            mean = (slopes[r] * (row - offsets[r]) / scale**2).sum() / precision
            width = precision**-0.5
            kappa = stats.multivariate_normal.pdf(
                row, offsets[r], np.diag(scale**2) + np.outer(slopes[r], slopes[r])
            )
            low, high = (edges[r] - mean) / width, (edges[r + 1] - mean) / width
            mass = stats.norm.cdf(high) - stats.norm.cdf(low)
            stats.truncnorm.mean(low, high, mean, width)
            stats.truncnorm.var(low, high, mean, width)
            total += kappa * mass
        found[n] = np.log(total)
    return found


def e_steps() -> None:
    """E-steps: one latent against the loop, two latents, many observed coordinates."""
    stack = network(1, (16, 16), 2, 0.3)
    x = observe(stack, 1000)
    fast = median_time(lambda: expectation_step(stack, x).sums)
    few = x[:20]
    start = time.process_time()
    slow_value = pair_by_pair(stack, few)
    slow = (time.process_time() - start) * len(x) / len(few)
    error = np.abs(slow_value - expectation_step(stack, few).log_evidence).max()
    regions = Partition.of(stack).num_regions
    print(
        f"1-D, 1,000 data, {regions} regions: E-step {1e3 * fast:.1f} ms; pair by pair with scipy "
        f"{slow:.1f} s (from {len(few)} data, agrees to {error:.0e}): ratio {slow / fast:.0f}"
    )
    stack = network(2, (18, 18), 3, 0.1)
    x = observe(stack, 500)
    regions = Partition.of(stack).num_regions
    seconds = median_time(lambda: expectation_step(stack, x).sums)
    print(
        f"2-D, 500 data, {regions} polygons: E-step with regions and sums {1e3 * seconds:.0f} ms"
    )
    times = {}
    for obs_dim in (16, 784):
        stack = network(1, (16, 16), obs_dim, 0.3)
        x = observe(stack, 1000)
        step = expectation_step(stack, x)
        reduced, partitions = step.reduced, step.partitions
        times[obs_dim] = (
            median_time(lambda: expectation_step(stack, x).sums),  # noqa: B023
            median_time(
                lambda: expectation_step(stack, x, reduced=reduced, partitions=partitions).sums  # noqa: B023
            ),
        )
    for index, label in enumerate(("all", "once the data are reduced")):
        small, large = times[16][index], times[784][index]
        print(
            f"1-D, 1,000 data, 16 hidden units, {label}: D = 16 {1e3 * small:.1f} ms, D = 784 "
            f"{1e3 * large:.1f} ms, ratio {large / small:.1f}"
        )


def peak_memory(size: int) -> float:
    """MiB that an E-step of so many data adds to the peak of a fresh process."""
    code = (
        "import resource; from benchmarks.exact_learning import *;"
        "stack = network(2, (18, 18), 3, 0.1);"
        "expectation_step(stack, observe(stack, 100)).sums;"
        f"x = observe(stack, {size});"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "expectation_step(stack, x).sums;"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "print((after - before) / 1024)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added = float(out.stdout.split()[-1])
    regions = Partition.of(network(2, (18, 18), 3, 0.1)).num_regions
    print(
        f"2-D, {size:,} data, {regions} regions: peak memory + {added:.0f} MiB; a dense table of "
        f"probabilities, means and covariances would take {48 * size * regions / 2**20:,.0f} MiB"
    )
    return added


def start(hidden: tuple[int, ...], seed: int) -> models.CPAGenerator:
    """The generator that every method starts from."""
    torch.manual_seed(seed)
    model = models.CPAGenerator(1, 2, hidden, 0.55, "leaky_relu", learn_noise=True)
    _initialise(model)
    return model


def train_autoencoder(model: models.CPAGenerator, x: Tensor, rate: float, seed: int) -> None:
    """A VAE of 3,000 steps of Adam on minibatches of 50, encoder 32-32."""
    guide = guides.Amortized(model, hidden=(32, 32), activation="leaky_relu")
    lvm.fit(
        model, guide, x, steps=3000, batch_size=50, learning_rate=rate, decay=False, seed=seed,
        progress=False,
    )  # fmt: skip


METHODS: dict[str, Callable[[models.CPAGenerator, Tensor, int], object]] = {
    "safeguarded EM": lambda m, x, s: lvm.fit_em(m, x, progress=False),
    "undamped EM": lambda m, x, s: lvm.fit_em(m, x, update="undamped", progress=False),
    "exact L-BFGS": lambda m, x, s: lvm.fit_exact(m, x, progress=False),
    "exact Adam": lambda m, x, s: lvm.fit_exact(m, x, optimizer="adam", steps=600, progress=False),
    "VAE 5e-3": lambda m, x, s: train_autoencoder(m, x, 5e-3, s),
    "VAE 1e-3": lambda m, x, s: train_autoencoder(m, x, 1e-3, s),
    "VAE 1e-4": lambda m, x, s: train_autoencoder(m, x, 1e-4, s),
}


def training() -> None:
    """Exact NLL on training and test data, and CPU seconds, over six seeds."""
    for name, hidden in SETTINGS:
        print(f"\n{name}, hidden {hidden}: NLL in nats per datum")
        for method, learn in METHODS.items():
            train, test, seconds, rises = [], [], [], 0
            for seed in SEEDS:
                data = getattr(synthetic, name)(500, noise_scale=0.1, seed=seed)
                model = start(hidden, seed)
                began = time.process_time()
                fit = learn(model, data.train, seed)
                seconds.append(time.process_time() - began)
                rises += "EM" in method and bool((fit.losses.diff() > 0.01).any())
                for found, x in ((train, data.train), (test, data.test)):
                    found.append(-lvm.log_evidence(model, x).value.mean().item())
            print(
                f"  {method:15s} train {np.median(train):.3f} [{min(train):.3f}, {max(train):.3f}]"
                f"  test {np.median(test):.3f}  {np.median(seconds):5.1f} s"
                + (f"  {rises} of 6 runs with a rise > 0.01" if "EM" in method else ""),
                flush=True,
            )


def main() -> None:
    """Print all figures."""
    torch.set_num_threads(1)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load}")
    print("CPU seconds, one thread")
    e_steps()
    for size in (10_000, 100_000):
        peak_memory(size)
    training()
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
