"""What a trained cell is worth on the whole test set: likelihoods, normaliser, overlap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core.estimate import mean_over_data
from pyrolvm.core.randomness import own_randomness
from pyrolvm.guides import HelmholtzCoupled
from pyrolvm.inference.enumeration import can_enumerate, layer_sums
from pyrolvm.inference.helmholtz.particle_sums import particle_sums, rounding_error
from pyrolvm.inference.helmholtz.settings import Settings
from pyrolvm.inference.pstar import PStar
from pyrolvm.models import SigmoidBeliefNetwork

CHECKED_ROWS = 100
"""Test rows on which single precision is held against double."""
EVALUATION_SEED = 1
"""Of the draws of all evaluations: cells of one data set are compared row by row."""


@dataclass(frozen=True)
class Measured:
    """Figures of a trained pair.

    Args:
        rows: Figures of each test row, shape ``(N,)``: ``log_evidence`` and ``log_bound`` in nats,
            ``overlap``, ``root_ess`` and ``ess`` as shares.
        scores: Means over test rows, with standard errors ending in ``_se``: ``nll`` (−log p),
            ``coupled_nll`` (−log p~*), ``log_z`` (−2 log Z), ``pstar_nll`` (−log p*),
            ``negative_elbo``, in nats; ``bc2``, ``root_ess``, ``ess``; ``method``, ``exact`` where
            layers are small enough for sums, else ``estimated``; ``z_method``; ``particles``,
            ``num_test``, ``rounding`` (nats).
    """

    rows: Mapping[str, Tensor]
    scores: Mapping[str, Any]


def measured(
    model: SigmoidBeliefNetwork,
    guide: HelmholtzCoupled,
    x: Tensor,
    settings: Settings,
    *,
    progress: bool | str = False,
) -> Measured:
    """Measure a trained pair on test rows.

    Args:
        model: The belief network.
        guide: Its guide.
        x: Test rows.
        settings: Draws.
        progress: Whether to show a bar; a text names it.
    """
    particles = settings.evaluation_particles
    sums = particle_sums(model, guide, x, particles, seed=EVALUATION_SEED, progress=progress)
    rows = {
        "log_evidence": sums.log_evidence,
        "log_bound": sums.log_bound,
        "overlap": sums.root_ess,
        "root_ess": sums.root_ess,
        "ess": sums.ess,
    }
    exact = layer_sums(model, guide) if can_enumerate(model, guide) else None
    if exact is not None:
        there = x.to(model.device, torch.float64)
        with torch.no_grad():
            rows["log_evidence"] = exact.log_evidence(there).cpu()
            rows["log_bound"] = exact.log_bound(there).cpu()
            rows["overlap"] = exact.overlap(there).cpu()
    with own_randomness(EVALUATION_SEED):
        z2 = PStar(model, guide, progress=bool(progress)).log_z2(settings.z_samples)
    scores: dict[str, Any] = {}
    for name, values in {
        "nll": -rows["log_evidence"],
        "coupled_nll": -rows["log_bound"],
        "negative_elbo": -sums.log_weight,
        "bc2": rows["overlap"],
        "root_ess": rows["root_ess"],
        "ess": rows["ess"],
    }.items():
        mean = mean_over_data(values)
        scores |= {name: mean.value, f"{name}_se": mean.standard_error}
    scores |= {
        "log_z": -z2.value,
        "log_z_se": z2.standard_error,
        "z_method": z2.method,
        "pstar_nll": scores["coupled_nll"] + z2.value,
        "pstar_nll_se": math.hypot(scores["coupled_nll_se"], z2.standard_error),
        "method": "estimated" if exact is None else "exact",
        "particles": particles,
        "num_test": len(x),
        "rounding": rounding_error(model, guide, x[:CHECKED_ROWS], min(particles, 100)),
    }
    return Measured(rows, scores)
