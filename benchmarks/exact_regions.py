"""Regions by cutting and by linear programs: ``python -m benchmarks.exact_regions``.

The search goes from code to code as in Balestriero, Paris & Baraniuk (2020): for each region one
linear program (HiGHS) a half-space tells whether it is a facet, and a facet leads to a neighbour.
It is timed on a few regions and scaled to all of them. CPU seconds of this process, medians over
repeats, compilation apart.

Measured on a 2-core EPYC VM (1 thread, load 7 to 8, numba 0.68, scipy 1.17, ReLU networks):
510,000 regions a second for S = 2 (2 x 32 units), 220,000 to 130,000 for S = 3 (2 x 8 to 2 x 32),
130,000 to 110,000 for S = 4 (2 x 12 to 2 x 16), 80,000 to 66,000 for S = 5 (2 x 8 to 2 x 10). The
search, SciPy's overhead of each program included, expands 5 to 54 regions a second: 2,100 to
12,700 times as long for S = 3 to 5. A region takes 0.8, 1.6 and 3.5 kB for S = 3, 4 and 5. With
1,000 data and 1,957 polygons, an E-step keeps 23 % of the pairs, 25 MiB.
"""

from __future__ import annotations

import os
import platform
import statistics
import time

import numba
import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import nn

from benchmarks.exact_posterior import observe
from pyrolvm.exact import AffineStack, Partition, solve
from pyrolvm.exact.folding import FoldedGenerator, fold

Array = NDArray[np.float64]

CASES = [
    (2, (32, 32)),
    (2, (64, 64)),
    (3, (8, 8)),
    (3, (16, 16)),
    (3, (32, 32)),
    (4, (12, 12)),
    (4, (16, 16)),
    (5, (8, 8)),
    (5, (10, 10)),
]


def generator(latent_dim: int, hidden: tuple[int, ...], obs_dim: int) -> AffineStack:
    """A random ReLU network whose kinks spread over the prior."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = latent_dim
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    module = nn.Sequential(*layers, nn.Linear(width, obs_dim)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            bound = 1.7 / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else 0.7
            parameter.uniform_(-bound, bound)
    module.requires_grad_(False)
    return AffineStack.from_sequential(module, 0.1)


def half_spaces(folded: FoldedGenerator, code: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Rows a and right sides b of a . u <= b for all hidden units of a code."""
    matrix, offset = np.eye(folded.latent_dim), np.zeros(folded.latent_dim)
    rows, rights, unit = [], [], 0
    for weight, bias, slope in zip(folded.weights, folded.biases, folded.slopes, strict=True):
        matrix, offset = weight @ matrix, weight @ offset + bias
        on = code[unit : unit + len(bias)]
        sign = np.where(on, -1.0, 1.0)
        rows.append(sign[:, None] * matrix)
        rights.append(-sign * offset)
        gain = np.where(on, 1.0, slope)
        matrix, offset, unit = gain[:, None] * matrix, gain * offset, unit + len(bias)
    return np.vstack(rows), np.concatenate(rights)


def search(folded: FoldedGenerator, box: float, most: int) -> tuple[int, float]:
    """Expand codes from that of 0, breadth first.

    Args:
        folded: The generator.
        box: Half the side of the box.
        most: Regions to expand at most.

    Returns:
        Number of regions expanded, and CPU seconds spent.
    """
    start, signs = np.zeros(folded.latent_dim), []
    for weight, bias, slope in zip(folded.weights, folded.biases, folded.slopes, strict=True):
        start = weight @ start + bias
        signs.append(start > 0)
        start = np.where(start > 0, start, slope * start)
    queue = [np.concatenate(signs)]
    seen = {queue[0].tobytes()}
    begin, expanded = time.process_time(), 0
    while expanded < min(most, len(queue)):
        code = queue[expanded]
        expanded += 1
        rows, rights = half_spaces(folded, code)
        for unit in range(len(code)):
            relaxed = rights.copy()
            relaxed[unit] += 1.0
            found = linprog(-rows[unit], rows, relaxed, bounds=(-box, box))
            neighbour = code.copy()
            neighbour[unit] = not code[unit]
            facet = found.status == 0 and rows[unit] @ found.x > rights[unit] + 1e-9
            if facet and neighbour.tobytes() not in seen:
                seen.add(neighbour.tobytes())
                queue.append(neighbour)
    return expanded, time.process_time() - begin


def cutting_seconds(stack: AffineStack, repeats: int) -> float:
    """Median CPU time of a partition."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        Partition.of(stack, max_regions=10**7)
        times.append(time.process_time() - begin)
    return statistics.median(times)


def regions() -> None:
    """Print a line for each network: regions, time, memory, and the search's time as a ratio."""
    for latent_dim, hidden in CASES:
        stack = generator(latent_dim, hidden, 8)
        partition = Partition.of(stack, max_regions=10**7)
        size = partition.num_regions
        seconds = cutting_seconds(stack, 5)
        expanded, spent = search(fold(stack), partition.box, 12)
        ratio = spent / expanded * size / seconds
        arrays = [partition.vertices, partition.codes, partition.first, partition.count]
        if partition.facets is not None:
            arrays += vars(partition.facets).values()
        memory = sum(array.nbytes for array in arrays) / size
        print(
            f"S = {latent_dim}, {hidden}: {size} regions in {seconds * 1e3:.1f} ms, "
            f"{size / seconds:,.0f} regions a second, {memory:.0f} bytes each; linear programs: "
            f"{expanded / spent:.1f} regions a second, {ratio:,.0f}x the time "
            f"(timed on {expanded}, scaled)"
        )


def pairs(latent_dim: int, hidden: tuple[int, ...], size: int) -> None:
    """Print the memory of an E-step beside that of a table of data times regions."""
    stack = generator(latent_dim, hidden, 8)
    posterior = solve(stack, observe(stack, size))
    each = 12 + 8 * latent_dim + 8 * latent_dim**2
    kept = posterior.num_pairs * each
    table = size * posterior.num_regions * each
    print(
        f"S = {latent_dim}, {hidden}, {size} data x {posterior.num_regions} regions: "
        f"{posterior.num_pairs} pairs kept, {kept / 2**20:.1f} MiB; all pairs would take "
        f"{table / 2**20:.0f} MiB"
    )


def main() -> None:
    """Print the tables."""
    print(
        f"python {platform.python_version()}, numba {numba.__version__}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, {torch.get_num_threads()} threads, "
        f"load {os.getloadavg()[0]:.2f}"
    )
    regions()
    pairs(2, (32, 32), 1000)
    pairs(3, (8, 8), 100)
    pairs(4, (6, 4), 10)
    print(f"load at the end {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
