"""How fast a belief network trains: ``python -m benchmarks.belief_net``.

Layers of 100, 70, 50 and 25 binary units over 123 binary observations, with the bottom-up guide,
100 rows in a minibatch and 10 particles, on the coupled bound. ``lvm.fit`` takes turns with Pyro's
``RenyiELBO`` in a plain ``SVI`` (of the same particles, without the control variate) and with the
same mathematics written by hand in eager PyTorch, once with ``torch.bernoulli`` and once with its
draws by comparison. Everything that ``lvm.fit`` does in a step is counted: minibatches, a check of
loss and gradients, the progress of the step size.

The last lines say what 1,000 particles for each of 1,000 data take: seconds, and memory at its
highest over what was there before.

Measured on a 2-core x86 VM (torch 2.13, one thread, CPU seconds) at load 7 to 10: 12.4 ms a step,
1.19 times the hand-written one with ``torch.bernoulli`` (1.15 at load 2 to 5) and 1.59 times that
with draws by comparison; Pyro's ``SVI`` on the same programs takes 1.52 and 2.03 times as long.
The densities of 1,000 data at 1,000 particles add 0.4 GiB and take half a minute.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import pyro
import torch
from pyro.infer import SVI, RenyiELBO
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives import CoupledELBO

LAYERS, OBS_DIM, ROWS, PARTICLES = (100, 70, 50, 25), 123, 100, 10
RATE, ROUNDS, FEW, MANY = 3e-3, 9, 5, 105


def pair() -> tuple[models.SigmoidBeliefNetwork, guides.HelmholtzCoupled]:
    """The model and its guide."""
    model = models.SigmoidBeliefNetwork(layers=LAYERS, obs_dim=OBS_DIM)
    return model, guides.HelmholtzCoupled(model)


def by_fit(data: Tensor, steps: int) -> None:
    """The library."""
    lvm.fit(
        *pair(), data, steps=steps, batch_size=ROWS, loss=CoupledELBO(PARTICLES),
        learning_rate=RATE, progress=False,
    )  # fmt: skip


def by_svi(data: Tensor, steps: int) -> None:
    """Plain Pyro."""
    loss = RenyiELBO(
        alpha=0.5, num_particles=PARTICLES, vectorize_particles=True, max_plate_nesting=1
    )
    with pyro.get_param_store().scope():
        svi = SVI(*pair(), pyro.optim.Adam({"lr": RATE}), loss)
        for _ in range(steps):
            svi.step(data[torch.randint(len(data), (ROWS,))])


class ByHand(nn.Module):
    """The same network without Pyro."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        widths = (OBS_DIM, *LAYERS)
        self.up = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise(widths))
        self.down = nn.ModuleList(nn.Linear(above, below) for below, above in pairwise(widths))
        self.top = nn.Parameter(torch.zeros(LAYERS[-1]))
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        """Surrogate of the negative coupled bound, summed over rows."""
        below, log_guide, log_joint = x.expand(PARTICLES, -1, -1), 0.0, 0.0
        for number, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            logits = up(x if number == 0 else below).expand(PARTICLES, -1, -1)
            with torch.no_grad():
                above = self.draw(logits.sigmoid())
            log_guide = log_guide - cross_entropy(logits, above, reduction="none").sum(-1)
            log_joint = log_joint - cross_entropy(down(above), below, reduction="none").sum(-1)
            below = above
        top = self.top.expand_as(below)
        log_joint = log_joint - cross_entropy(top, below, reduction="none").sum(-1)
        weights = torch.softmax(0.5 * (log_joint - log_guide).detach(), 0)
        return -(weights * log_joint + (weights - 1 / PARTICLES) * log_guide).sum()


def by_hand(draw: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], None]:
    """Eager PyTorch with one fused Adam."""

    def run(data: Tensor, steps: int) -> None:
        network = ByHand(draw)
        adam = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
        for _ in range(steps):
            adam.zero_grad()
            loss = network(data[torch.randint(len(data), (ROWS,))])
            loss.backward()
            adam.step()
            loss.item()

    return run


def compared(probabilities: Tensor) -> Tensor:
    """Draw units by comparison with uniform numbers."""
    return (torch.rand_like(probabilities) < probabilities).to(probabilities.dtype)


def milliseconds(run: Callable[[Tensor, int], None], data: Tensor) -> float:
    """CPU milliseconds of a step; what comes before the first one is taken off."""
    spent = []
    for steps in (FEW, MANY):
        with own_randomness(0):
            start = time.process_time()
            run(data, steps)
            spent.append(time.process_time() - start)
    return 1000 * (spent[1] - spent[0]) / (MANY - FEW)


def compare(data: Tensor) -> None:
    """Print medians, and ratios of the same round to the step by hand."""
    ways = {
        "by hand, torch.bernoulli": by_hand(torch.bernoulli),
        "by hand, draws by comparison": by_hand(compared),
        "lvm.fit, CoupledELBO": by_fit,
        "Pyro SVI, RenyiELBO": by_svi,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            spent[name].append(milliseconds(run, data))
    for name, times in spent.items():
        ratios = [
            statistics.median(mine / other for mine, other in zip(times, spent[base], strict=True))
            for base in list(ways)[:2]
        ]
        print(
            f"{name:30} {statistics.median(times):6.2f} ms a step   "
            f"{ratios[0]:5.2f} and {ratios[1]:5.2f} times the hand-written ones"
        )


def memory(data: Tensor) -> None:
    """Print time and memory of many particles for many data."""
    model, guide = pair()
    lvm.log_densities(model, guide, data[:10], num_particles=10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    lvm.log_densities(model, guide, data, num_particles=1000)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"log_densities of {len(data)} data at 1000 particles: {seconds:.1f} s, "
        f"{(after - before) / 1024:.0f} MiB on top of {before / 1024:.0f} MiB"
    )


def main() -> None:
    """Print the machine and the figures."""
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch "
        f"{torch.__version__}, pyro {pyro.__version__}, 1 thread, load {os.getloadavg()[0]:.1f}"
    )
    with own_randomness(0):
        data = (torch.rand(1000, OBS_DIM) < 0.2).float()
        memory(data)
        compare(data)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
