"""A number that knows how far off it may be and how it was obtained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A scalar estimate with its standard error.

    Args:
        value: The estimate; nats where it is a log density, a bound or a gap.
        standard_error: One standard deviation of the estimate; 0 where it is exact.
        method: How it was obtained: ``"exact"``, ``"iwae"``, ``"mean over data"``, …
    """

    value: float
    standard_error: float
    method: str

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.standard_error:.2g} ({self.method})"


def mean_over_data(per_datum: Tensor, method: str = "mean over data") -> Estimate:
    """Mean of a per-datum quantity, with its standard error over data.

    Args:
        per_datum: Shape ``(N,)``.
        method: Says how the per-datum values were obtained.

    Returns:
        The mean; its standard error is infinite for a single datum.
    """
    size = per_datum.numel()
    spread = torch.std(per_datum.double()).item() / math.sqrt(size) if size > 1 else math.inf
    return Estimate(per_datum.double().mean().item(), spread, method)
