r"""The gap between evidence and ELBO, split into what the family and what the encoder loses.

.. math::
    \underbrace{\log p(x) - \mathcal L(q_\phi)}_{\text{total}} =
    \underbrace{\log p(x) - \mathcal L(q^*)}_{\text{approximation}} +
    \underbrace{\mathcal L(q^*) - \mathcal L(q_\phi)}_{\text{amortization}}

q* is the oracle: the best member of the guide's own family, fitted to the one datum.

Cremer, Li & Duvenaud (2018), Inference Suboptimality in Variational Autoencoders.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyrolvm.core.errors import DataError
from pyrolvm.core.estimate import Estimate, mean_over_data
from pyrolvm.diagnostics.log_weights import PerDatum


@dataclass(frozen=True, eq=False)
class GapSplit:
    """The three gaps of each datum, in nats.

    Args:
        total: log p(x) − ELBO, the divergence KL(q ‖ posterior), shape ``(N,)``; as good as the
            evidence: a lower bound on the evidence gives a lower bound here.
        approximation: What the best member of the family cannot reach, shape ``(N,)``.
        amortization: What the shared encoder loses against that member, shape ``(N,)``. Negative
            values are Monte Carlo error or an oracle that has not converged, and are left as they
            are.
    """

    total: PerDatum
    approximation: PerDatum
    amortization: PerDatum

    def estimates(self) -> dict[str, Estimate]:
        """Mean of each gap over data, with its standard error over data.

        Returns:
            ``"total"``, ``"approximation"`` and ``"amortization"``, in nats.
        """
        return {
            "total": mean_over_data(self.total),
            "approximation": mean_over_data(self.approximation),
            "amortization": mean_over_data(self.amortization),
        }


def gap_split(log_evidence: PerDatum, guide_elbo: PerDatum, oracle_elbo: PerDatum) -> GapSplit:
    """Split the gap of each datum.

    Args:
        log_evidence: log p(x) in nats, shape ``(N,)``.
        guide_elbo: ELBO of the guide, shape ``(N,)``.
        oracle_elbo: ELBO of the oracle, shape ``(N,)``.

    Returns:
        The gaps, in double precision; approximation + amortization = total.

    Raises:
        DataError: If the three do not have one common shape ``(N,)``, N ≥ 1.

    Examples:
        >>> import torch
        >>> split = gap_split(torch.tensor([-1.0]), torch.tensor([-4.0]), torch.tensor([-3.0]))
        >>> split.total.item(), split.approximation.item(), split.amortization.item()
        (3.0, 2.0, 1.0)
    """
    shapes = [tuple(each.shape) for each in (log_evidence, guide_elbo, oracle_elbo)]
    if log_evidence.ndim != 1 or log_evidence.numel() == 0 or len(set(shapes)) > 1:
        raise DataError(
            "A gap split needs log_evidence, guide_elbo and oracle_elbo of the same shape (N,), "
            f"but they have {', '.join(map(str, shapes))}. Average over particles first, and "
            "score the same data."
        )
    evidence, guide, oracle = (
        each.detach().double() for each in (log_evidence, guide_elbo, oracle_elbo)
    )
    return GapSplit(
        total=evidence - guide, approximation=evidence - oracle, amortization=oracle - guide
    )
