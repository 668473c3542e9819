"""Peak memory of ``lvm.compare`` on 10,000 data with 1,000 draws each, in a process of its own.

``python -m benchmarks.peak_memory wide`` prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import pyrolvm as lvm
from pyrolvm import guides, models

PAIRS = {
    "ReLU generator, z in R², x in R⁶⁴": lambda: models.CPAGenerator(2, 64),
    "VAE, z in R²⁰, x in R⁷⁸⁴": lambda: models.VAE(20, 784, hidden=(64,)),
}


def peak(name: str, num_data: int, num_particles: int) -> dict[str, Any]:
    """Compare a guide in this process; returns GiB at its highest and before, and seconds."""
    torch.manual_seed(0)
    model = PAIRS[name]()
    guide = guides.Amortized(model)
    x = model(size=num_data).detach()
    before, started = _gibibytes(), time.perf_counter()
    lvm.compare(
        model, {"diagonal": guide}, x, test=x, train="nothing", oracle_steps=0,
        num_particles=num_particles, progress=False,
    )  # fmt: skip
    return {
        "pair": name, "data": num_data, "draws": num_particles, "GiB before": before,
        "peak GiB": _gibibytes(), "seconds": time.perf_counter() - started,
    }  # fmt: skip


def in_new_process(name: str, num_data: int, num_particles: int) -> dict[str, Any]:
    """The same in a process of its own."""
    settings = [name, str(num_data), str(num_particles)]
    command = [sys.executable, "-m", "benchmarks.peak_memory", *settings]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _gibibytes() -> float:
    """Peak of this program; Linux lets ``ru_maxrss`` begin at that of the process before it."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Print what one comparison takes."""
    name, num_data, num_particles = sys.argv[1:4]
    print(json.dumps(peak(name, int(num_data), int(num_particles))))


if __name__ == "__main__":
    main()
