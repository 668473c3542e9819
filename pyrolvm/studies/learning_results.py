"""Figures of a generator that learned: its exact likelihood on both kinds of rows, and how."""

from __future__ import annotations

import math
from typing import Any

import torch

from pyrolvm.core import evaluating, mean_over_data
from pyrolvm.diagnostics.comparison_tree import Measured
from pyrolvm.inference import exact_evidence
from pyrolvm.inference.evidence import Evidence, has_exact_evidence
from pyrolvm.studies.learners import FittedGenerator
from pyrolvm.studies.training import Trained

RISE = 0.01
"""Nats a datum: a larger rise of the exact negative log likelihood counts as one."""
LEARNED_MEANS = ("train_nll", "nll")
LEARNED_OTHERS = ("largest_rise", "rises")


def learning_results(measured: Measured, evidence: Evidence, trained: Trained) -> dict[str, Any]:
    """Figures of a generator that learned, None in other cells.

    Args:
        measured: Arrays over the scored data.
        evidence: What they rest on.
        trained: The pair.

    Returns:
        ``train_nll`` and ``nll``: exact negative log likelihood of the training rows and of the
        scored rows, nats a datum, with ``_se`` over rows. Of an exact learner besides:
        ``largest_rise`` of its loss between two steps, nats a datum (None where it broke off);
        ``rises``, the steps at which it rose by more than 0.01, or broke off.
    """
    found: dict[str, Any] = dict.fromkeys(LEARNED_OTHERS)
    for name, values in _likelihoods(measured, evidence, trained).items():
        estimate = mean_over_data(values)
        known = math.isfinite(estimate.value)
        found |= {name: estimate.value if known else None}
        found |= {f"{name}_se": estimate.standard_error if known else None}
    if trained.fitted is not None and trained.fitted.is_exact:
        found |= _of_exact_learner(trained.fitted)
    return found


def _likelihoods(
    measured: Measured, evidence: Evidence, trained: Trained
) -> dict[str, torch.Tensor]:
    unknown = torch.tensor([torch.nan, torch.nan])
    if not _learned(trained) or evidence.is_bound or not has_exact_evidence(trained.model):
        return dict.fromkeys(LEARNED_MEANS, unknown)
    with evaluating(trained.model), torch.no_grad():
        train = exact_evidence(trained.model, trained.rows.train)
    train_nll = unknown if train is None else -train.value
    return {"train_nll": train_nll, "nll": -measured.log_evidence}


def _learned(trained: Trained) -> bool:
    return trained.fitted is not None or trained.learns_generator


def _of_exact_learner(fitted: FittedGenerator) -> dict[str, Any]:
    rises = fitted.rises
    largest = rises.max().item() if len(rises) else 0.0
    return {
        "largest_rise": max(0.0, largest) if math.isfinite(largest) else None,
        "rises": int((rises > RISE).sum()),
    }
