r"""The gap of each datum in two parts: what the family cannot reach, and what the guide wastes.

.. math::
    \log p(x) - \mathcal L(q) =
    \underbrace{\log p(x) - \mathcal L(q^*)}_{\text{approximation}} +
    \underbrace{\mathcal L(q^*) - \mathcal L(q)}_{\text{amortization}}

q* is the oracle: the best member of a family for each datum alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from pyrolvm.diagnostics.finding import Defect, Finding, Level
from pyrolvm.diagnostics.labelling import as_array
from pyrolvm.diagnostics.rounding import rounded
from pyrolvm.inference.guide_family import SharedPart

if TYPE_CHECKING:
    import xarray as xr

    from pyrolvm.inference.evidence import Evidence

NOTICEABLE = 0.1
"""Nats below which a gap needs no cure."""
LARGE = 0.5
"""Nats from which a gap shows: as much as a shift by one posterior standard deviation costs."""
SURE = 3.0
"""Standard errors that a gap must be away from nothing."""


@dataclass(frozen=True, eq=False)
class GapReport:
    """The gaps of N data in nats, with standard errors from Monte Carlo.

    Args:
        evidence: log p(x) of the data, and how it was obtained.
        guide_elbo: Shape ``(N,)``.
        guide_elbo_se: Its standard error.
        oracle_elbo: Of the best member of the oracle's family, ``(N,)``.
        oracle_elbo_se: Its standard error.
        oracle: Name of that family.
        is_same_family: Whether it is the guide's own.
        shared_part: What the second gap is due to.
        richer_elbo: Of the best full-rank Gaussian where the oracle is a diagonal one, ``(N,)``;
            None elsewhere.
        richer_elbo_se: Its standard error.
        rows: Numbers of the data.
        num_particles: Draws behind each ELBO.
        note: What limits the split, a full sentence; empty if nothing does.
    """

    evidence: Evidence
    guide_elbo: Float[Tensor, " data"]
    guide_elbo_se: Float[Tensor, " data"]
    oracle_elbo: Float[Tensor, " data"]
    oracle_elbo_se: Float[Tensor, " data"]
    oracle: str
    is_same_family: bool
    shared_part: SharedPart
    richer_elbo: Float[Tensor, " data"] | None
    richer_elbo_se: Float[Tensor, " data"] | None
    rows: tuple[int, ...]
    num_particles: int
    note: str = ""

    @property
    def total(self) -> Float[Tensor, " data"]:
        """Gap of the guide, log p(x) − ELBO; a lower bound where the evidence is one."""
        return self.evidence.value - self.guide_elbo

    @property
    def total_se(self) -> Float[Tensor, " data"]:
        """Standard error of :attr:`total`."""
        return self.evidence.standard_error.hypot(self.guide_elbo_se)

    @property
    def approximation(self) -> Float[Tensor, " data"]:
        """Gap of the oracle: what the family cannot reach."""
        return self.evidence.value - self.oracle_elbo

    @property
    def approximation_se(self) -> Float[Tensor, " data"]:
        """Standard error of :attr:`approximation`."""
        return self.evidence.standard_error.hypot(self.oracle_elbo_se)

    @property
    def amortization(self) -> Float[Tensor, " data"]:
        """ELBO of the oracle − ELBO of the guide: what encoder or training lose."""
        return self.oracle_elbo - self.guide_elbo

    @property
    def amortization_se(self) -> Float[Tensor, " data"]:
        """Standard error of :attr:`amortization`."""
        return self.oracle_elbo_se.hypot(self.guide_elbo_se)

    @property
    def from_correlation(self) -> Float[Tensor, " data"] | None:
        """ELBO of the best full-rank Gaussian − that of the best diagonal one."""
        return None if self.richer_elbo is None else self.richer_elbo - self.oracle_elbo

    def findings(self) -> tuple[Finding, ...]:
        """Both parts, with defect and advice where one is more than half of the other."""
        family, shared = self._mean("approximation"), self._mean("amortization")
        largest = max(family[0], shared[0])
        return (
            self._finding(
                "approximation gap, mean", *family, self._family_words, family[0] > largest / 2
            ),
            self._finding(
                f"{self.shared_part} gap, mean", *shared, self._shared_words,
                shared[0] > largest / 2,
            ),
        )  # fmt: skip

    def _mean(self, name: str) -> tuple[float, float]:
        """Mean over data, with its Monte Carlo error."""
        value, error = getattr(self, name), getattr(self, f"{name}_se")
        return float(value.mean()), float(error.square().sum().sqrt()) / len(value)

    def _finding(
        self, name: str, value: float, error: float, words: Any, dominates: bool
    ) -> Finding:
        level = self._level(value, error)
        sentence, defect, advice = words(value, error)
        shows = level != "good"
        return Finding(
            "gaps",
            name,
            value,
            error,
            "nats",
            level,
            f"{sentence} {self.note}".strip(),
            defect if shows and dominates else None,
            advice if shows else "",
        )

    @property
    def _alone(self) -> str:
        return "each datum alone" if len(self.rows) > 1 else "these data alone"

    @staticmethod
    def _level(value: float, error: float) -> Level:
        if math.isnan(value):
            return "unknown"
        if not value > max(NOTICEABLE, SURE * error):
            return "good"
        return "bad" if value > LARGE else "care"

    def _family_words(self, value: float, error: float) -> tuple[str, Defect, str]:
        at_least = "at least " if self.evidence.is_bound else ""
        sentence = (
            f"The best {self.oracle}, fitted to {self._alone}, stays {at_least}"
            f"{rounded(value, error)} nats below log p(x)."
        )
        if -SURE * error < value < error:
            return (
                f"The best {self.oracle}, fitted to {self._alone}, reaches log p(x) within the "
                f"error of {error:.1g} nats.",
                "wrong shape",
                "",
            )
        gain = self.from_correlation
        if gain is not None and float(gain.mean()) > 0.5 * value:
            return (
                f"{sentence} A full-rank Gaussian would gain {float(gain.mean()):.2f} of them.",
                "ignores correlation",
                "Let the guide learn correlations: a full-rank Gaussian "
                "(AutoMultivariateNormal, family='full').",
            )
        return (
            sentence,
            "wrong shape",
            "Take a richer family (a mixture, a flow), or write the model in a form whose "
            "posterior is closer to a Gaussian (non-centred scales).",
        )

    def _shared_words(self, value: float, error: float) -> tuple[str, Defect | None, str]:
        best = f"the best {self.oracle}, fitted to {self._alone}"
        if value < -SURE * error:
            why = (
                "the oracle has not come to its best"
                if self.is_same_family
                else f"its family is richer than a {self.oracle}"
            )
            return (
                f"The guide's ELBO lies {rounded(-value, error)} nats above that of {best}: "
                f"{why}, and nothing can be said of its training.",
                None,
                "",
            )
        if value < error:
            equal = (
                f"The guide's ELBO equals that of {best}, within the error of {error:.1g} nats."
            )
            return equal, None, ""
        sentence = f"The guide's ELBO lies {rounded(value, error)} nats below that of {best}"
        if not self.is_same_family:
            return (
                f"{sentence}, which may be another family than its own: so much could be won.",
                None,
                f"Try a {self.oracle} as the guide's family, or train the guide longer.",
            )
        if self.shared_part == "amortization":
            return (
                f"{sentence}: so much does sharing one encoder cost.",
                "encoder",
                "Train the encoder longer or on more data, make it larger, or refine its output "
                "for each datum (semi-amortized).",
            )
        return (
            f"{sentence}: so much does training lack.",
            None,
            "Train the guide longer, with a smaller step at the end, or start it elsewhere.",
        )

    def dataset(self) -> xr.Dataset:
        """Gaps and their standard errors by datum, in nats."""
        import xarray as xr

        names = ("total", "approximation", "amortization")
        variables = {
            name: ("datum", as_array(getattr(self, name)))
            for each in names
            for name in (each, f"{each}_se")
        }
        if self.richer_elbo is not None:
            variables["from_correlation"] = (
                "datum",
                as_array(self.richer_elbo - self.oracle_elbo),
            )
        return xr.Dataset(
            variables,
            coords={"datum": list(self.rows)},
            attrs={
                "units": "nats",
                "oracle": self.oracle,
                "is_same_family": int(self.is_same_family),
                "shared_part": self.shared_part,
                "evidence_method": self.evidence.method,
                "evidence_is_bound": int(self.evidence.is_bound),
                "num_particles": self.num_particles,
                "note": self.note,
            },
        )


def elbo_with_error(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over particles and its standard error, shape ``(N,)`` each."""
    return log_weights.mean(0), log_weights.std(0) / len(log_weights) ** 0.5
