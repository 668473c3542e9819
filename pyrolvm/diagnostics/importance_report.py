r"""What importance weights say of a guide, datum by datum, and in words.

Four views of the same log weights :math:`\log w = \log p(x, z) - \log q(z \mid x)`: the shape k̂
of their tail, the effective sample size, the overlap BC² with the posterior, and the variance of
the log weights. k̂ sees a guide whose tails are too light; the variance also sees one that is too
wide, whose weights are bounded; evidence from elsewhere also sees what the draws never reach.

References:
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), Pareto Smoothed Importance Sampling, JMLR 25;
    Yao, Vehtari, Simpson & Gelman (2018), Yes, but Did It Work?: Evaluating Variational Inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyrolvm.diagnostics.bounds import iwae_standard_error
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.importance import (
    effective_sample_size,
    khat_standard_error,
    khat_threshold,
    pareto_khat,
)
from pyrolvm.diagnostics.log_weight_spread import log_weight_skewness, log_weight_variance
from pyrolvm.diagnostics.log_weights import (
    LogWeights,
    PerDatum,
    checked,
    checked_evidence,
    log_mean_exp,
)
from pyrolvm.diagnostics.overlap import (
    bhattacharyya_squared,
    sqrt_weight_ess,
    sqrt_weight_ess_standard_error,
)

if TYPE_CHECKING:
    import xarray as xr

STAND_IN = "self-normalised weights"
"""What stands for the evidence in BC² where none came from outside; blind to missed modes."""


@dataclass(frozen=True)
class Importance:
    """Figures of K importance weights for each of N data; every array has shape ``(N,)``.

    Args:
        khat: Tail shape of the weights.
        khat_se: Its large-sample standard error.
        ess: Effective sample size, in draws.
        bc2: Squared Bhattacharyya coefficient between guide and posterior.
        bc2_se: Its standard error, without that of the evidence.
        log_weight_variance: Squared nats; 0 exactly for the posterior itself.
        log_weight_variance_se: Its standard error.
        log_weight_skewness: Negative for a guide that is too wide, positive for a narrow one.
        num_particles: Number of draws K.
        evidence: Where the evidence in ``bc2`` is from; :data:`STAND_IN` where from the weights.
        mass_seen: Mean weight over evidence from outside, which is 1 but for posterior mass that
            the draws do not reach; None without such evidence.
        mass_seen_se: Its standard error, that of the evidence included.
    """

    khat: PerDatum
    khat_se: PerDatum
    ess: PerDatum
    bc2: PerDatum
    bc2_se: PerDatum
    log_weight_variance: PerDatum
    log_weight_variance_se: PerDatum
    log_weight_skewness: PerDatum
    num_particles: int
    evidence: str = STAND_IN
    mass_seen: PerDatum | None = None
    mass_seen_se: PerDatum | None = None

    @classmethod
    def of(
        cls,
        log_weights: LogWeights,
        log_evidence: PerDatum | None = None,
        *,
        log_evidence_se: PerDatum | None = None,
        method: str = "given",
    ) -> Importance:
        """Measure log weights.

        Args:
            log_weights: log p(x, z) − log q(z | x) in nats, shape ``(K, N)``.
            log_evidence: log p(x) in nats, shape ``(N,)``, obtained without these draws; None
                takes the weights' own mean, and cannot see a missed mode.
            log_evidence_se: Its standard error, shape ``(N,)``; None for an exact one.
            method: How the evidence was obtained, for the record.

        Returns:
            The figures.

        Raises:
            DataError: If a shape does not fit, a weight is NaN or +inf, or an evidence is not
                finite.
            SettingError: If there is a single draw.
        """
        log_weights = checked(log_weights)
        khat_threshold(len(log_weights))
        seen = seen_error = None
        if log_evidence is None:
            method = STAND_IN
            bc2 = sqrt_weight_ess(log_weights)
            bc2_error = sqrt_weight_ess_standard_error(log_weights)
        else:
            bc2, bc2_error = bhattacharyya_squared(log_weights, log_evidence)
            seen, seen_error = _mass_seen(log_weights, log_evidence, log_evidence_se)
        khat = pareto_khat(log_weights)
        return cls(
            khat,
            khat_standard_error(khat, len(log_weights)),
            effective_sample_size(log_weights),
            bc2,
            bc2_error,
            *log_weight_variance(log_weights),
            log_weight_skewness(log_weights),
            len(log_weights),
            method,
            seen,
            seen_error,
        )

    @property
    def threshold(self) -> float:
        """Largest k̂ at which this many draws give a usable estimate."""
        return khat_threshold(self.num_particles)

    @property
    def has_evidence(self) -> bool:
        """Whether the evidence came from outside, so that missed modes can show."""
        return self.evidence != STAND_IN

    @property
    def share_above(self) -> float:
        """Share of data whose k̂ lies above the threshold."""
        return (self.khat > self.threshold).double().mean().item()

    def findings(self) -> tuple[Finding, ...]:
        """Judge the guide: one finding a figure, the tail shape first."""
        from pyrolvm.diagnostics.importance_findings import judge_importance

        return judge_importance(self)

    def dataset(self) -> xr.Dataset:
        """All arrays along ``datum``; attributes name threshold, draws and evidence."""
        import xarray as xr

        arrays = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return xr.Dataset(
            {name: ("datum", value.cpu().numpy()) for name, value in arrays.items()},
            coords={"datum": range(len(self.khat))},
            attrs={
                "khat_threshold": self.threshold,
                "num_particles": self.num_particles,
                "bc2_evidence": self.evidence,
                "log_weight_variance_unit": "nats²",
            },
        )


def _mass_seen(
    log_weights: LogWeights, log_evidence: PerDatum, log_evidence_se: PerDatum | None
) -> tuple[PerDatum, PerDatum]:
    """Mean weight over the evidence, and its standard error."""
    log_evidence = checked_evidence(log_weights, log_evidence, "posterior mass within reach")
    value = torch.exp(log_mean_exp(log_weights) - log_evidence)
    error = iwae_standard_error(log_weights)
    if log_evidence_se is not None:
        error = torch.hypot(error, log_evidence_se.to(error))
    return value, torch.where(value == 0.0, 0.0, value * error)
