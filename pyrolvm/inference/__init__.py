"""What runs programs to get a yardstick: evidence, scores, per-datum oracles, pictures."""

from pyrolvm.inference.evidence import (
    Evidence,
    exact_evidence,
    exact_log_evidence,
    has_exact_evidence,
)
from pyrolvm.inference.evidence_routes import log_evidence
from pyrolvm.inference.importance_evidence import iwae_evidence
from pyrolvm.inference.oracle import Oracles, OracleSettings, fit_to_each
from pyrolvm.inference.scoring import GuideScore, num_parameters, score

__all__ = [
    "Evidence",
    "GuideScore",
    "OracleSettings",
    "Oracles",
    "exact_evidence",
    "exact_log_evidence",
    "fit_to_each",
    "has_exact_evidence",
    "iwae_evidence",
    "log_evidence",
    "num_parameters",
    "score",
]
