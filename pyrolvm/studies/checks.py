"""What must hold of the figures of a cell whatever the study finds; a cell keeps the verdicts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import mean_over_data
from pyrolvm.diagnostics.comparison_tree import Measured
from pyrolvm.inference.evidence import Evidence

ERRORS = 5.0
"""Standard errors by which an estimate may be on the wrong side."""
ROUNDING = 1e-6
EVIDENCE_ERROR = 0.05


def checks(measured: Measured, evidence: Evidence, losses: Tensor) -> list[dict[str, Any]]:
    """Check the figures of a cell.

    Args:
        measured: Arrays over the scored data.
        evidence: What they rest on.
        losses: Training loss of every step.

    Returns:
        For each check its name, the value (nats per datum), the limit that it may not exceed, and
        whether it passed.
    """
    arrays = measured.per_datum()
    gap = mean_over_data(arrays["gap"])
    found = [
        _check("gap below zero", -gap.value, _allowed(gap.standard_error)),
        _check("error of the evidence", evidence.standard_error.mean().item(), EVIDENCE_ERROR),
    ]
    if measured.oracle_elbo is not None:
        rest = arrays["gap"] - arrays["approximation_gap"] - arrays["amortization_gap"]
        worse = mean_over_data(arrays["elbo"] - measured.oracle_elbo)
        allowed = _allowed(worse.standard_error)
        found += [
            _check("gap that is neither kind", rest.abs().max().item(), ROUNDING),
            _check("encoder better than the oracle", worse.value, allowed),
        ]
    return found + _loss_checks(losses)


def _loss_checks(losses: Tensor) -> list[dict[str, Any]]:
    if len(losses) < 2:
        return []
    tenth = max(1, len(losses) // 10)
    first, last = losses[:tenth].double(), losses[-tenth:].double()
    spread = (first.var() + last.var()) / tenth if tenth > 1 else torch.tensor(math.inf)
    rise = (last.mean() - first.mean()).item()
    return [
        _check("losses not finite", (~losses.isfinite()).sum().item(), 0.0),
        _check("rise of the loss", rise, _allowed(float(spread) ** 0.5)),
    ]


def _allowed(standard_error: float) -> float:
    return ERRORS * standard_error + ROUNDING


def _check(name: str, value: float, limit: float) -> dict[str, Any]:
    """One verdict; a limit that is not finite (no spread is known) is recorded as none."""
    return {
        "check": name,
        "value": value if math.isfinite(value) else None,
        "limit": limit if math.isfinite(limit) else None,
        "passed": bool(value <= limit),
    }
