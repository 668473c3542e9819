"""What a measurement was made on: machine, versions, threads, load."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("pyrolvm", "torch", "pyro-ppl", "numpyro", "jax", "numpy", "numba")


def machine() -> dict[str, str]:
    """Return facts by name, in words."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
        "threads of torch": str(torch.get_num_threads()),
    }


def load() -> float:
    """Average number of processes that wanted a core in the last minute."""
    return os.getloadavg()[0]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
