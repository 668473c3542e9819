"""Figures that only some cells have: of chains, and of models that learn from another's rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pyro.distributions import Independent, Normal
from torch import Tensor

from pyrolvm.core import ExplicitJoint, mean_over_data
from pyrolvm.core.pairing import offers
from pyrolvm.diagnostics.comparison_tree import Measured
from pyrolvm.inference import exact_evidence
from pyrolvm.inference.evidence import Evidence
from pyrolvm.inference.marginal import MOST_DIMS, ChainGuide, marginal_gap
from pyrolvm.studies.problem import make_truth, seed_for
from pyrolvm.studies.training import Trained

FURTHER_MEANS = ("marginal_gap", "evidence_loss")


def further_results(
    measured: Measured, evidence: Evidence, trained: Trained, configuration: Mapping[str, Any]
) -> dict[str, Any]:
    """Figures that only some cells have, None in the others; nats per datum.

    Args:
        measured: Arrays over the scored data.
        evidence: What they rest on.
        trained: The pair.
        configuration: That of the cell.

    Returns:
        ``marginal_gap``: KL of where a chain ends, which its gap bounds from above.
        ``evidence_loss``: log p(x) of the true generator less that of the model, on held-out rows.
        ``noise_scale``: of the generator, after any training.
        Each of the first two with ``_se``.
    """
    return {
        **_mean("marginal_gap", _of_chains(evidence, trained, configuration["seed"])),
        **_mean("evidence_loss", _lost_to_truth(measured, evidence, trained, configuration)),
        "noise_scale": _noise_scale(trained),
    }


def _mean(name: str, values: Tensor | None) -> dict[str, float | None]:
    if values is None:
        return {name: None, f"{name}_se": None}
    found = mean_over_data(values)
    return {name: found.value, f"{name}_se": found.standard_error}


def _of_chains(evidence: Evidence, trained: Trained, seed: int) -> Tensor | None:
    model, guide = trained.model, trained.guide
    if evidence.is_bound or not isinstance(guide, ChainGuide) or not offers(model, ExplicitJoint):
        return None
    if model.latent_dim > MOST_DIMS:
        return None
    purpose = seed_for("chains", seed)
    return marginal_gap(model, guide, trained.rows.test, evidence.value, seed=purpose)


def _lost_to_truth(
    measured: Measured, evidence: Evidence, trained: Trained, configuration: Mapping[str, Any]
) -> Tensor | None:
    truth = make_truth(configuration)
    if truth is None or evidence.is_bound:
        return None
    found = exact_evidence(truth, trained.rows.test)
    return None if found is None else found.value - measured.log_evidence


def _noise_scale(trained: Trained) -> float | None:
    """Mean noise scale of a Gaussian generator."""
    if not offers(trained.model, ExplicitJoint):
        return None
    likelihood = trained.model.likelihood(trained.model.prior().mean[None])
    base = likelihood.base_dist if isinstance(likelihood, Independent) else None
    scale = base.scale.mean().item() if isinstance(base, Normal) else math.nan
    return scale if math.isfinite(scale) else None
