"""What an evidence says in words, and as labelled arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrolvm.diagnostics.finding import Finding
from pyrolvm.inference.evidence import LARGE_ERROR, Evidence

if TYPE_CHECKING:
    import xarray as xr

FEW_CHAINS = 2.0
"""Effective number of chains below which one chain makes the estimate."""


def evidence_findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Say what the evidence is and how far it can be relied on: one finding.

    Args:
        evidence: As measured.
    """
    large, few = _typical_error(evidence) > LARGE_ERROR, _share_of_few(evidence)
    sentence, advice = f"log p(x) is {evidence}.", ""
    if evidence.method.startswith("iwae"):
        sentence = (
            f"log p(x) is only bounded from below, by the guide's own draws: {evidence}. A "
            "region of the posterior that the guide never visits does not show, and gaps are "
            "lower bounds."
        )
        advice = (
            "Annealing also sees what the guide misses; it takes continuous latents and discrete "
            'ones of finite support: effort="full", or log_evidence(model, data, "ais").'
        )
    elif large or few > 0.1:
        sentence = (
            f"log p(x) is uncertain, {evidence}: the error of a typical datum is "
            f"{_typical_error(evidence):.2g} nats"
            + (f", and one chain makes the estimate of {few:.0%} of the data." if few else ".")
        )
        advice = (
            "Anneal longer: log_evidence(model, data, "
            "annealing=AnnealingSettings(num_temperatures=2000))."
        )
    return (
        Finding(
            "evidence", "log p(x), mean over data", evidence.mean, evidence.mean_error, "nats",
            "unknown" if evidence.method.startswith("iwae") else "care" if advice else "good",
            sentence, advice=advice,
        ),
    )  # fmt: skip


def _typical_error(evidence: Evidence) -> float:
    return evidence.standard_error.double().median().item()


def _share_of_few(evidence: Evidence) -> float:
    """Share of the data whose estimate rests on a single chain."""
    if evidence.annealed is None:
        return 0.0
    return (evidence.annealed.effective_chains < FEW_CHAINS).double().mean().item()


def evidence_dataset(evidence: Evidence) -> xr.Dataset:
    """Labelled arrays over ``datum``, in nats; of annealing also what its chains did.

    Args:
        evidence: As measured.
    """
    import xarray as xr

    arrays = {"log_evidence": evidence.value, "log_evidence_se": evidence.standard_error}
    if evidence.annealed is not None:
        arrays["effective_chains"] = evidence.annealed.effective_chains
        arrays["acceptance"] = evidence.annealed.acceptance
    return xr.Dataset(
        {name: ("datum", array.detach().cpu().double().numpy()) for name, array in arrays.items()},
        attrs={"method": evidence.method, "is_bound": int(evidence.is_bound), "unit": "nats"},
    )
