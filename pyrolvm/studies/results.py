"""The figures of a cell, as JSON holds them: nats per datum, ``_se`` their standard errors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import Guide, Model, mean_over_data
from pyrolvm.diagnostics import khat_threshold
from pyrolvm.diagnostics.comparison_tree import CLOSE, Measured
from pyrolvm.inference.evidence import Evidence
from pyrolvm.studies.training import Trained

MEANS = (
    "gap",
    "approximation_gap",
    "amortization_gap",
    "elbo",
    "log_evidence",
    "tv",
    "bc2",
    "ess",
)
OTHERS = (
    "tv_share", "khat_median", "khat_share", "loss", "parameters", "steps", "restart",
    "evidence_method", "evidence_is_bound", "latent_dim", "obs_dim", "train_size", "test_size",
    "kind",
)  # fmt: skip


def results(
    measured: Measured, evidence: Evidence, trained: Trained, losses: Tensor
) -> dict[str, Any]:
    """Figures of a cell.

    Args:
        measured: Arrays over the scored data.
        evidence: What they rest on.
        trained: The pair.
        losses: Training loss of every step.

    Returns:
        Means over data by name, each with ``<name>_se``; None where a figure is not known or not
        finite. Besides: ``tv_share`` (data whose total variation is at most 0.1), ``khat_median``,
        ``khat_share`` (data above the threshold), ``parameters``, ``loss`` (the last tenth of
        the steps), ``steps``, ``restart``, and how the evidence was obtained.
    """
    per_datum = measured.per_datum()
    figures: dict[str, Any] = {}
    for name in MEANS:
        estimate = mean_over_data(per_datum.get(name, torch.full_like(measured.elbo, torch.nan)))
        figures |= {name: estimate.value, f"{name}_se": estimate.standard_error}
    known = per_datum.get("tv")
    figures["tv_share"] = math.nan if known is None else _share(known <= CLOSE, known)
    figures["khat_median"] = measured.khat.median().item()
    threshold = khat_threshold(measured.num_particles)
    figures["khat_share"] = (measured.khat > threshold).double().mean().item()
    figures["loss"] = losses[-max(1, len(losses) // 10) :].double().mean().item()
    return {
        **{name: value if math.isfinite(value) else None for name, value in figures.items()},
        "parameters": measured.parameters,
        "steps": len(losses),
        "restart": trained.restart,
        "evidence_method": evidence.method,
        "evidence_is_bound": evidence.is_bound,
        "latent_dim": _dim(trained, "latent_dim"),
        "obs_dim": int(trained.rows.test[0].numel()),
        "train_size": len(trained.rows.train),
        "test_size": len(trained.rows.test),
        "kind": measured.kind if isinstance(trained.guide, Guide) else "program",
    }


def _share(claims: Tensor, values: Tensor) -> float:
    return math.nan if bool(values.isnan().any()) else claims.double().mean().item()


def _dim(trained: Trained, name: str) -> int | None:
    return int(getattr(trained.model, name)) if isinstance(trained.model, Model) else None
