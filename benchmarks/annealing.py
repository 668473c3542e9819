"""How far annealing is from the exact evidence: ``python -m benchmarks.annealing``.

For models whose evidence is known exactly, log p(x) of 100 data is estimated by annealed
importance sampling with the default settings. Printed are the mean error and its largest size, how
large it is in reported standard errors (root mean square; 1 is honest), the smallest effective
number of chains, the width of the sandwich on data of the model's own, and the wall time of the
estimate; densities in nats a datum.

Measured on one thread of a busy 2-core EPYC VM (torch 2.13): the mean error is 0.003 and less at
noise 0.3, 0.012 and less at 0.1, 0.03 and less at 0.03, within two of its standard errors; the
root mean square lies between 1.0 and 1.2, and at 1.5 for separate modes at noise 0.03, where the
sandwich is 0.19 nats wide. On an idle thread an estimate takes 1.5 to 3 s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from pyrolvm import models
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference import exact_log_evidence
from pyrolvm.inference.annealing import AnnealingSettings, annealed_evidence, sandwich

NOISES = (0.3, 0.1, 0.03)
NUM_DATA = 100
HEAD = "model                        noise   error ± se        largest   rms z  chains  sandwich"


def problems() -> Iterator[tuple[str, float, Callable[[], Any]]]:
    """Names, noise scales and makers of the models."""
    for noise in NOISES:
        linear = partial(models.LinearGaussian, 2, 8, noise_scale=noise)
        yield "linear, 2 of 8", noise, linear
        yield "ReLU, 1 latent", noise, partial(models.CPAGenerator, 1, 8, (16,), noise)
        yield "ReLU, 2 latents", noise, partial(models.CPAGenerator, 2, 8, (16,), noise)
        folded = partial(models.CPAGenerator, 2, 8, (8,), noise, "abs")
        yield "abs, 2 latents (modes)", noise, folded
    yield "linear, 20 of 50", 0.3, partial(models.LinearGaussian, 20, 50, noise_scale=0.3)
    yield "linear, 50 of 100", 0.1, partial(models.LinearGaussian, 50, 100, noise_scale=0.1)


def row(name: str, noise: float, make: Callable[[], Any], settings: AnnealingSettings) -> str:
    """One line of the table."""
    with own_randomness(1):
        model = make().double()
        x = model(size=NUM_DATA).detach()
    start = time.perf_counter()
    found = annealed_evidence(model, x, settings)
    seconds = time.perf_counter() - start
    error = found.value - exact_log_evidence(model, x).detach()
    rms = (error / found.standard_error).square().mean().sqrt()
    spread = error.std() / NUM_DATA**0.5
    both = sandwich(model, x, settings)
    return (
        f"{name:28} {noise:<5}  {error.mean():8.4f} ± {spread:.4f}  {error.abs().max():7.2f}  "
        f"{rms:6.2f}  {found.effective_chains.min():6.1f}  {both.width:7.3f} ± "
        f"{both.width_error:.3f}  {seconds:.1f} s"
    )


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    settings = AnnealingSettings()
    print(f"{NUM_DATA} data, {settings.method}\n{HEAD}")
    for name, noise, make in problems():
        print(row(name, noise, make, settings), flush=True)


if __name__ == "__main__":
    main()
