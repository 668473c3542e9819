"""From the measured arrays of several guides to one tree: the table, the draws, the pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyrolvm.core.estimate import mean_over_data
from pyrolvm.diagnostics.arviz_export import combine, to_datatree
from pyrolvm.diagnostics.gaps import gap_split
from pyrolvm.diagnostics.importance import khat_threshold

if TYPE_CHECKING:
    import xarray as xr

CLOSE = 0.1
"""Total variation distance below which a guide counts as close to the posterior of a datum."""
NUM_CHAINS = 4
KEPT_CELLS = 120_000
"""Draws times data that a tree keeps for each guide; the figures rest on all draws."""


@dataclass(frozen=True)
class Measured:
    """All that was measured of one guide on N data; nats.

    Args:
        kind: Class of the guide.
        family: Family of its densities; empty where it has none.
        parameters: Number of trainable numbers.
        elbo: Shape ``(N,)``.
        oracle_elbo: ELBO of the best member of the family for each datum, ``(N,)``; None where no
            oracle was fitted.
        log_evidence: Shape ``(N,)``.
        log_evidence_error: Standard error of the evidence, ``(N,)``.
        evidence_method: How the evidence was obtained.
        khat: Shape ``(N,)``.
        ess: Effective draws, ``(N,)``.
        bc2: Squared Bhattacharyya coefficient, ``(N,)``; None where the evidence is a bound from
            the guide's own draws.
        tv: Total variation distance to the posterior, ``(N,)``; None where the evidence is a
            bound.
        sqrt_weight_ess: Self-normalised stand-in for ``bc2``, ``(N,)``.
        ms_per_datum: Milliseconds for the posterior of a datum.
        train_seconds: Wall time of training.
        num_particles: Draws that the figures rest on.
        posterior: Kept draws by site, ``(K, N, ...)``.
        log_weights: Of the kept draws, ``(K, N)``.
        log_likelihood: Of the kept draws by observed site, ``(K, N)``.
        predictive: Replicated data by site, ``(K', N, ...)``.
        losses: Training loss of each step.
        factorises: Whether each datum has a posterior of its own.
        global_sites: Sites outside the data plate, if it has none.
        extended_space: Whether the weights are those of whole chains that end at z; see
            :class:`pyrolvm.core.Guide`.
        picture: Arrays for the group ``picture``: ``log_density``, ``reconstruction``.
    """

    kind: str
    family: str
    parameters: int
    elbo: Tensor
    oracle_elbo: Tensor | None
    log_evidence: Tensor
    log_evidence_error: Tensor
    evidence_method: str
    khat: Tensor
    ess: Tensor
    bc2: Tensor | None
    tv: Tensor | None
    sqrt_weight_ess: Tensor
    ms_per_datum: float
    train_seconds: float
    num_particles: int
    posterior: Mapping[str, Tensor]
    log_weights: Tensor
    log_likelihood: Mapping[str, Tensor]
    predictive: Mapping[str, Tensor]
    losses: Tensor
    factorises: bool
    global_sites: tuple[str, ...] = ()
    extended_space: bool = False
    picture: Mapping[str, Tensor] = field(default_factory=dict)

    def per_datum(self) -> dict[str, Tensor]:
        """Every per-datum quantity by name, shape ``(N,)``; NaN where it was not measured."""
        unknown = torch.full_like(self.elbo, torch.nan)
        gap = self.log_evidence - self.elbo
        split = None
        if self.oracle_elbo is not None:
            split = gap_split(self.log_evidence, self.elbo, self.oracle_elbo)
        return {
            "elbo": self.elbo,
            "log_evidence": self.log_evidence,
            "gap": gap,
            "approximation_gap": unknown if split is None else split.approximation,
            "amortization_gap": unknown if split is None else split.amortization,
            "bc2": unknown if self.bc2 is None else self.bc2,
            "tv": unknown if self.tv is None else self.tv,
            "sqrt_weight_ess": self.sqrt_weight_ess,
            "khat": self.khat,
            "ess": self.ess,
        }


def kept_draws(num_particles: int, num_data: int) -> int:
    """Draws a datum that a tree keeps: a multiple of the number of chains, or all there are."""
    most = max(10 * NUM_CHAINS, KEPT_CELLS // num_data)
    kept = min(num_particles, most)
    return kept - kept % NUM_CHAINS if kept >= NUM_CHAINS else kept


def table(measured: Mapping[str, Measured]) -> xr.Dataset:
    """One row a guide: means over data with their standard errors.

    Args:
        measured: By name of the guide.

    Returns:
        Variables along the dimension ``guide``; ``<name>_se`` is the standard error of ``<name>``.
    """
    import xarray as xr

    rows = [_row(each) for each in measured.values()]
    columns = {key: ("guide", np.array([row[key] for row in rows])) for key in rows[0]}
    return xr.Dataset(columns, coords={"guide": list(measured)})


def _row(each: Measured) -> dict[str, Any]:
    per_datum = each.per_datum()
    row: dict[str, Any] = {
        "type": each.kind,
        "family": each.family,
        "parameters": each.parameters,
        "extended_space": int(each.extended_space),
    }
    for name in (
        "elbo", "log_evidence", "gap", "approximation_gap", "amortization_gap", "bc2", "tv",
    ):  # fmt: skip
        estimate = mean_over_data(per_datum[name])
        row[name], row[f"{name}_se"] = estimate.value, estimate.standard_error
    threshold = khat_threshold(each.num_particles)
    return row | {
        "tv_share": math.nan if each.tv is None else (each.tv <= CLOSE).double().mean().item(),
        "evidence_method": each.evidence_method,
        "sqrt_weight_ess": each.sqrt_weight_ess.mean().item(),
        "khat_median": each.khat.quantile(0.5, interpolation="lower").item(),
        "khat_share_above": (each.khat > threshold).double().mean().item(),
        "ess": each.ess.mean().item(),
        "ms_per_datum": each.ms_per_datum,
        "train_seconds": each.train_seconds,
    }


def guide_tree(
    each: Measured, observed: Mapping[str, Tensor], prior: Mapping[str, Mapping[str, Tensor]]
) -> xr.DataTree:
    """The ArviZ tree of one guide, with the groups ``training`` and ``picture`` beside."""
    import xarray as xr

    num_chains = NUM_CHAINS if len(each.log_weights) % NUM_CHAINS == 0 else 1
    factorised = each.factorises
    per_datum = each.per_datum()
    tree = to_datatree(
        each.posterior,
        each.log_weights if factorised else each.log_weights[:, 0],
        each.khat if factorised else each.khat[0],
        observed_data=observed,
        log_likelihood={
            site: density if factorised else density[:, 0]
            for site, density in each.log_likelihood.items()
        },
        posterior_predictive=each.predictive,
        prior=prior.get("prior"),
        prior_predictive=prior.get("prior_predictive"),
        per_datum=per_datum if factorised else {k: v[0] for k, v in per_datum.items()},
        num_chains=num_chains,
        factorised=factorised,
        attrs={"num_particles": each.num_particles, "kept_draws": len(each.log_weights)},
    )
    if len(each.losses):
        tree["training"] = xr.DataTree(xr.Dataset({"loss": ("step", each.losses.numpy())}))
    if each.picture:
        names = {
            "log_density": ("picture", "grid_2", "grid_1"),
            "reconstruction": ("picture", "x_dim"),
        }
        variables = {}
        for key, value in each.picture.items():
            dims = names[key] if value.dim() == len(names[key]) else ("picture", "grid_1")
            variables[key] = (dims, value.cpu().numpy())
        tree["picture"] = xr.DataTree(xr.Dataset(variables))
    return tree


def comparison_tree(
    measured: Mapping[str, Measured],
    *,
    observed: Mapping[str, Tensor],
    prior: Mapping[str, Mapping[str, Tensor]],
    picture: Mapping[str, tuple[Sequence[str], Tensor]],
    attrs: Mapping[str, Any],
) -> xr.DataTree:
    """One tree of all guides: ``/table``, ``/picture``, ``/prior_predictive`` and a child a guide.

    Args:
        measured: By name of the guide.
        observed: The scored data by site, ``(N, ...)``.
        prior: Groups ``prior`` and ``prior_predictive``, each by site, ``(M, ...)``.
        picture: Variables of the group ``picture`` with their dimensions; may be empty.
        attrs: What was compared and how.

    Returns:
        The tree that the figures and the report read.
    """
    import xarray as xr

    extra = {"table": table(measured)}
    if picture:
        variables = {
            name: (list(dims), value.cpu().numpy()) for name, (dims, value) in picture.items()
        }
        extra["picture"] = xr.Dataset(variables, attrs={"units": "nats"})
    replicated = prior.get("prior_predictive", {})
    if "x" in replicated:
        extra["prior_predictive"] = xr.Dataset(
            {"x": (("sample", "x_dim"), replicated["x"].cpu().numpy())}
        )
    trees = {name: guide_tree(each, observed, prior) for name, each in measured.items()}
    return combine(trees, attrs=attrs, extra_groups=extra)
