"""Log densities of normals by hand, and names that Pyro's store does not have yet."""

from __future__ import annotations

import itertools
import math

from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_NUMBERS = itertools.count()


def log_normal(value: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """Return the log density of each value in nats."""
    return -0.5 * ((value - loc) * (-log_scale).exp()).square() - log_scale - HALF_LOG_2PI


def log_standard_normal(value: Tensor) -> Tensor:
    """Return the log density of each value in nats under N(0, 1)."""
    return -0.5 * value.square() - HALF_LOG_2PI


def unused_name(name: str) -> str:
    """Return a name for Pyro's store, where several pairs of a kind live side by side."""
    return f"{name}_{next(_NUMBERS)}"
