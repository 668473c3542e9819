"""How fast 25 models train together: ``python -m benchmarks.ensemble``.

Hierarchical VAEs of two layers on digits of 8x8 pixels, one for each of 5 x 5 weights of the
rates, are trained at once by ``lvm.fit_ensemble``, one after another by ``lvm.fit``, and one after
another by plain ``pyro.infer.SVI`` as a user writes it (``Trace_ELBO``, ``pyro.optim.Adam``, a
handler for the weights). The loops are timed on a few members and scaled to 25. All take turns, so
that a machine that gets busier slows all; times are CPU seconds of one thread.

Measured on a 2-core EPYC VM (torch 2.13) at load 4 to 6: against plain SVI 19.7 times as fast
(17.7 to 27.5) with 32 rows in a minibatch and 7.4 times (6.2 to 8.2) with 128, where half of the
time is matrix products; against ``lvm.fit`` 15.1 and 5.5 times. Capturing and the members' own
first steps take 1.3 s.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

import pyrolvm as lvm
from pyrolvm import datasets, guides, models
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives import LayerwiseELBO, weighted

VALUES = (0.1, 0.3, 1.0, 3.0, 10.0)
GRID = [
    {"rate_weights": {"z_1": first, "z_2": second}}
    for first, second in itertools.product(VALUES, VALUES)
]
ROUNDS = 5
FEW = 3


def make_model() -> models.HierarchicalVAE:
    """The generative half."""
    return models.HierarchicalVAE(latent_dims=(16, 4), obs_dim=64, hidden=(96,))


def make_guide(model: Any) -> guides.Layerwise:
    """A network for each layer."""
    return guides.Layerwise(model, hidden=(96,))


@contextmanager
def cpu_seconds(into: list[float]) -> Iterator[None]:
    """Append the CPU seconds that were spent inside."""
    start = time.process_time()
    yield
    into.append(time.process_time() - start)


def together(data: Tensor, batch_size: int, steps: int) -> None:
    """All members as one program."""
    lvm.fit_ensemble(
        make_model, make_guide, data, grid=GRID, steps=steps, batch_size=batch_size, progress=False
    )


def by_fit(data: Tensor, batch_size: int, steps: int) -> None:
    """A few members by ``lvm.fit``."""
    for number in range(FEW):
        model = make_model()
        lvm.fit(
            model, make_guide(model), data, steps=steps, batch_size=batch_size, seed=number,
            loss=LayerwiseELBO(GRID[number]["rate_weights"], log=False), progress=False,
        )  # fmt: skip


def by_svi(data: Tensor, batch_size: int, steps: int, validate: bool = True) -> None:
    """A few members by plain Pyro."""
    for number in range(FEW):
        model = make_model()
        guide = make_guide(model)
        weights = GRID[number]["rate_weights"]
        svi = SVI(
            weighted(model, weights), weighted(guide, weights),
            pyro.optim.Adam({"lr": 3e-3}), Trace_ELBO(),
        )  # fmt: skip
        with pyro.get_param_store().scope(), pyro.validation_enabled(validate):
            for _ in range(steps):
                svi.step(data[torch.randint(len(data), (batch_size,))])


def by_svi_without_validation(data: Tensor, batch_size: int, steps: int) -> None:
    """A few members by plain Pyro with validation off."""
    by_svi(data, batch_size, steps, validate=False)


def milliseconds(
    run: Callable[[Tensor, int, int], None], data: Tensor, batch_size: int, members: int
) -> tuple[float, float]:
    """CPU milliseconds of a step of all 25 members, and of what comes before the first step.

    Two lengths of training are compared, so that capturing and building do not count as steps.
    """
    few, many = 5, 405 if members == len(GRID) else 65
    spent: list[float] = []
    for steps in (few, many):
        with own_randomness(0), cpu_seconds(spent):
            run(data, batch_size, steps)
    a_step = (spent[1] - spent[0]) / (many - few)
    return 1000 * a_step * len(GRID) / members, 1000 * (spent[0] - few * a_step)


def compare(data: Tensor, batch_size: int) -> None:
    """Print medians, and ratios of the same round to training together."""
    ways = {
        "together": (together, len(GRID)),
        "lvm.fit, one after another": (by_fit, FEW),
        "plain Pyro SVI": (by_svi, FEW),
        "plain Pyro SVI, validation off": (by_svi_without_validation, FEW),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    before: list[float] = []
    for _ in range(ROUNDS):
        for name, (run, members) in ways.items():
            a_step, setup = milliseconds(run, data, batch_size, members)
            found[name].append(a_step)
            if run is together:
                before.append(setup)
    print(f"batch {batch_size}, load {os.getloadavg()[0]:.2f}")
    for name, times in found.items():
        ratios = [mine / ours for mine, ours in zip(times, found["together"], strict=True)]
        print(
            f"  {name:32} {statistics.median(times):8.1f} ms a step of all 25, ratio "
            f"{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print(f"  capturing and the members' own first steps: {statistics.median(before):.0f} ms")


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.2f}")
    data = datasets.load("digits").train
    for batch_size in (32, 128):
        compare(data, batch_size)


if __name__ == "__main__":
    main()
