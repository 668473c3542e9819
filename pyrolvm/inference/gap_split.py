r"""What the family and what the encoder costs, for any Pyro pair.

.. math::
    \log p(x) - \mathcal L(q) =
    \underbrace{\log p(x) - \mathcal L(q^*)}_{\text{approximation}} +
    \underbrace{\mathcal L(q^*) - \mathcal L(q)}_{\text{amortization}}

q* is the best member of the guide's family for one datum alone. The family is the guide's own
where it is known, a full-rank Gaussian in unconstrained coordinates elsewhere.

References:
    Cremer, Li & Duvenaud (2018), Inference Suboptimality in Variational Autoencoders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pyrolvm.core import Data, DataError, LogDensities
from pyrolvm.core.errors import require_at_least, require_seed
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference.evidence import Evidence, exact_evidence
from pyrolvm.inference.gap_report import GapReport, elbo_with_error
from pyrolvm.inference.guide_family import shared_part
from pyrolvm.inference.importance_evidence import iwae_evidence
from pyrolvm.inference.local_oracle import LocalFits, LocalOracle
from pyrolvm.inference.rows import Rows, densities_at_rows, row_numbers


def gap_split(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    rows: Rows = None,
    evidence: Evidence | None = None,
    steps: int = 600,
    num_particles: int = 1000,
    seed: int = 0,
) -> GapReport:
    """Split the gap of each datum into what the family and what the guide besides loses.

    Args:
        model: A Pyro program that observes ``data``.
        guide: A Pyro program with the same arguments.
        data: A tensor, or a mapping from argument name to tensor, rows first.
        rows: Numbers of the data to split at; None takes all. Without effect where a latent site
            lies outside the plate ``"data"``: the data set is one datum then.
        evidence: log p(x) of the chosen rows; None takes the exact one where there is one, and
            elsewhere the importance-weighted bound, by oracle or guide, whichever is higher.
        steps: Gradient steps of the oracle, over all data at once.
        num_particles: Draws K behind each ELBO.
        seed: The same seed gives the same figures.

    Returns:
        The gaps in nats, shape ``(N,)`` each, with standard errors.

    Raises:
        SiteError: If no latent is continuous and the guide is not one of PyroLVM.
        DataError: If the evidence is not that of the chosen rows.
    """
    require_at_least(2, num_particles=num_particles, steps=steps)
    require_seed(seed)
    given = Data.of(data)
    with own_randomness(seed):
        found = densities_at_rows(model, guide, given, rows, num_particles)
        chosen = rows if found.factorises else None
        numbers = row_numbers(chosen, found.log_weights.shape[1])
        fits = LocalFits(model, guide, given, chosen, steps, num_particles, seed)
        oracle = fits.oracle(found)
        elbo, elbo_se = elbo_with_error(found.log_weights)
        best, best_se = elbo_with_error(oracle.log_weights)
        richer = (None, None) if oracle.richer is None else elbo_with_error(oracle.richer)
        return GapReport(
            evidence=_evidence(model, given, chosen, evidence, found, oracle),
            guide_elbo=elbo,
            guide_elbo_se=elbo_se,
            oracle_elbo=best,
            oracle_elbo_se=best_se,
            oracle=oracle.name,
            is_same_family=oracle.is_same_family,
            shared_part=shared_part(model, guide, given, numbers, found.factorises),
            richer_elbo=richer[0],
            richer_elbo_se=richer[1],
            rows=numbers,
            num_particles=num_particles,
            note=oracle.note,
        )


def _evidence(
    model: Any,
    given: Data,
    rows: Rows,
    evidence: Evidence | None,
    found: LogDensities,
    oracle: LocalOracle,
) -> Evidence:
    """The evidence that is given, exact, or bounded, of the chosen rows."""
    size = found.log_weights.shape[1]
    if evidence is not None:
        if len(evidence.value) != size:
            raise DataError(
                f"The gaps of {size} data need the evidence of these data, but got that of "
                f"{len(evidence.value)}. Pass the evidence of the chosen rows."
            )
        return evidence
    few = given if rows is None else given.rows(torch.as_tensor(rows))
    exact = exact_evidence(model, few) if found.factorises else None
    if exact is not None:
        return exact
    weights = {"the guide": found.log_weights, oracle.name: oracle.log_weights}
    if oracle.richer is not None:
        weights["full-rank Gaussian"] = oracle.richer
    bounds = [iwae_evidence(each, name) for name, each in weights.items()]
    return max(bounds, key=lambda bound: float(bound.value.mean()))
