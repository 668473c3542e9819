"""Measure one guide: its score, its evidence, its oracle, and the draws that a tree keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import (
    BinaryLayers,
    BinaryRecognition,
    Data,
    Guide,
    Model,
    predictive,
    prior_predictive,
)
from pyrolvm.core.guide import keep_the_contract
from pyrolvm.core.pairing import offers
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnostics import bhattacharyya_squared, sqrt_weight_ess, total_variation
from pyrolvm.diagnostics.comparison_tree import Measured, kept_draws
from pyrolvm.inference.enumeration import can_enumerate, layer_sums
from pyrolvm.inference.evidence import Evidence
from pyrolvm.inference.importance_evidence import iwae_evidence, many_particles_evidence
from pyrolvm.inference.oracle import Oracles
from pyrolvm.inference.scoring import num_parameters, score

PREDICTIVE_DRAWS = 20
PREDICTED_CELLS = 2**22
"""Numbers that are predicted at once: draws times data times their width."""
PRIOR_DRAWS = 64
EVIDENCE_FACTOR = 5
"""Fresh draws that bound the evidence of binary layers, for each draw that scores the guide."""
CHAIN_CELLS = 2**25
"""Data times states over which the overlap of a chain of layers is summed."""
JOINT_CELLS = 2**22
"""The same for any other guide over binary layers, which is run at every joint state."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What training a guide cost.

    Args:
        losses: Loss of each step in nats per datum; empty where it was not trained.
        seconds: Wall time.
    """

    losses: Tensor
    seconds: float


def measure(name: str, training: Training, oracles: Oracles) -> tuple[Measured, Evidence]:
    """Score one guide and keep what a tree needs; the draws beyond that are let go.

    Args:
        name: Which of the oracles' pairs.
        training: What its training cost.
        oracles: The pairs, the scored data, and how to measure.

    Returns:
        The measured arrays, and the evidence that they rest on.
    """
    model, guide = oracles.pairs[name]
    scored, settings = oracles.scored, oracles.settings
    found = score(
        model, guide, scored, num_particles=settings.num_particles, seed=settings.seed,
        keep_values=kept_draws(settings.num_particles, scored.num_rows),
    )  # fmt: skip
    weights, densities = found.log_weights, found.densities
    exact = oracles.evidence(model)
    if exact is not None and not densities.factorises:
        exact = exact.of_all_data()
    evidence = exact or _bounded(name, oracles, weights, densities.factorises)
    kept = kept_draws(len(weights), weights.shape[1])
    family = getattr(guide, "family", None)
    cost = 1000 * training.seconds / scored.num_rows if is_per_datum(guide) else 0.0
    predicted = _predict(model, guide, scored, settings.seed) if densities.factorises else {}
    return Measured(
        kind="function" if isinstance(guide, FunctionType) else type(guide).__name__,
        family=getattr(family, "name", ""),
        parameters=num_parameters(guide, scored),
        elbo=found.elbo,
        oracle_elbo=found.elbo if _amortizes_nothing(guide) else oracles.elbo(name),
        log_evidence=evidence.value,
        log_evidence_error=evidence.standard_error,
        khat=found.khat,
        ess=found.ess,
        evidence_method=evidence.method,
        bc2=_overlap(model, guide, scored, weights, evidence, densities.factorises),
        tv=None if exact is None else total_variation(weights, exact.value)[0],
        sqrt_weight_ess=sqrt_weight_ess(weights),
        ms_per_datum=found.ms_per_datum + cost,
        train_seconds=training.seconds,
        num_particles=settings.num_particles,
        posterior={site: _first(kept, value) for site, value in densities.values.items()},
        log_weights=_first(kept, weights),
        log_likelihood={site: _first(kept, value) for site, value in densities.likelihood.items()},
        predictive=predicted,
        losses=training.losses,
        factorises=densities.factorises,
        global_sites=densities.global_sites,
        extended_space=isinstance(guide, Guide) and guide.extended_space,
    ), evidence


def _bounded(name: str, oracles: Oracles, weights: Tensor, factorises: bool) -> Evidence:
    """Bound the evidence; for binary layers by many fresh draws, for the overlap's sake."""
    model, guide = oracles.pairs[name]
    settings = oracles.settings
    if not (offers(model, BinaryLayers) and factorises):
        return iwae_evidence(weights, name)
    with own_randomness(settings.seed + 2):
        return many_particles_evidence(
            model, guide, oracles.scored, EVIDENCE_FACTOR * settings.num_particles, name
        )


def _overlap(
    model: Any, guide: Any, scored: Data, weights: Tensor, evidence: Evidence, factorises: bool
) -> Tensor | None:
    """BC² of each datum, exact for small binary layers; None where only these draws bound p(x)."""
    x = scored.only
    if factorises and x is not None and can_enumerate(model, guide):
        sums = layer_sums(model, guide)
        limit = CHAIN_CELLS if offers(guide, BinaryRecognition) else JOINT_CELLS
        if sums.num_states * len(x) <= limit:
            return sums.overlap(x.double())
    if evidence.is_bound and not (factorises and offers(model, BinaryLayers)):
        return None
    return bhattacharyya_squared(weights, evidence.value)[0]


def _first(number: int, draws: Tensor) -> Tensor:
    """Copy the first draws to the CPU; a view would keep all of them in memory."""
    return draws[:number].clone().cpu()


def with_evidence(
    measured: Mapping[str, Measured], evidence: Mapping[str, Evidence], one_model: bool
) -> tuple[dict[str, Measured], str, bool]:
    """Give every row of one model the same evidence: the tightest bound where it is not exact.

    Args:
        measured: By name of the guide.
        evidence: What :func:`measure` found for each.
        one_model: Whether all rows have the same model.

    Returns:
        The rows, how the evidence was obtained, and whether it is a bound.
    """
    is_bound = any(each.is_bound for each in evidence.values())
    if not is_bound or not one_model:
        methods = dict.fromkeys(each.method for each in evidence.values())
        rows = {
            name: dataclasses.replace(each, bc2=_at_most_one(each.bc2))
            if evidence[name].is_bound
            else each
            for name, each in measured.items()
        }
        return rows, ", ".join(methods), is_bound
    best = max(evidence.values(), key=lambda each: each.value.mean().item())
    shared = {
        name: dataclasses.replace(
            each,
            log_evidence=best.value,
            log_evidence_error=best.standard_error,
            evidence_method=best.method,
            bc2=_at_most_one(_rescaled(each.bc2, each.log_evidence, best.value)),
        )
        for name, each in measured.items()
    }
    return shared, best.method, True


def _rescaled(bc2: Tensor | None, before: Tensor, now: Tensor) -> Tensor | None:
    """Overlap with the posterior once the evidence, which it is divided by, is another."""
    return None if bc2 is None else bc2 * (before - now).exp()


def _at_most_one(bc2: Tensor | None) -> Tensor | None:
    """An overlap whose evidence is too low is an upper bound, and 1 is another."""
    return None if bc2 is None else bc2.clamp_max(1.0)


def _amortizes_nothing(guide: Any) -> bool:
    """Whether a guide has parameters of each datum's own, or is the posterior itself."""
    return isinstance(guide, Guide) and (guide.per_datum or guide.is_exact)


def is_per_datum(guide: Any) -> bool:
    """Whether a guide has parameters of each datum's own."""
    return isinstance(guide, Guide) and guide.per_datum


def _predict(model: Any, guide: Any, scored: Data, seed: int) -> dict[str, Tensor]:
    cells = sum(tensor.numel() for _, tensor in scored.items())
    number = max(4, min(PREDICTIVE_DRAWS, PREDICTED_CELLS // cells // 4 * 4))
    rows = scored.num_rows
    if keep_the_contract(model, guide):
        rows = max(1, PREDICTED_CELLS * rows // (number * cells))
    with own_randomness(seed):
        parts = [
            predictive(model, guide, scored.rows(slice(start, start + rows)), number).observations
            for start in range(0, scored.num_rows, rows)
        ]
    return {site: torch.cat([part[site] for part in parts], 1) for site in parts[0]}


def prior_draws(model: Any, seed: int, data: Any = None) -> dict[str, dict[str, Tensor]]:
    """Draws of a model of PyroLVM for the groups ``prior`` and ``prior_predictive``.

    Args:
        model: Any program; one that is not PyroLVM's gives nothing.
        seed: Of the draws.
        data: Rows that a model with covariates takes these from.
    """
    if not isinstance(model, Model):
        return {}
    with own_randomness(seed):
        draws = prior_predictive(model, PRIOR_DRAWS, data)
    return {"prior": draws.latents, "prior_predictive": draws.observations}
