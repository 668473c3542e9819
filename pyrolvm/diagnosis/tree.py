"""From what was measured to one tree, from which alone verdict and report are made."""

from __future__ import annotations

import datetime
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyrolvm.compare import describe
from pyrolvm.diagnosis.measuring import Measuring, name_of
from pyrolvm.diagnostics import arviz_export, total_variation
from pyrolvm.diagnostics.comparison_tree import NUM_CHAINS, kept_draws
from pyrolvm.diagnostics.diagnosis_tree import findings_dataset

if TYPE_CHECKING:
    import xarray as xr


def diagnosis_tree(work: Measuring, effort: str) -> xr.DataTree:
    """All that was measured as one tree: draws at the root, a group for each diagnostic.

    Args:
        work: The diagnosis, measured.
        effort: Name of how much that was.
    """
    import xarray as xr

    densities, weights = work.score.densities, work.score.log_weights
    kept = kept_draws(len(weights), weights.shape[1])
    chains = NUM_CHAINS if kept % NUM_CHAINS == 0 else 1
    shape = weights.shape[1] if densities.factorises else None
    tree = arviz_export.to_datatree(
        {site: value[:kept] for site, value in densities.values.items()},
        weights[:kept],
        work.score.khat,
        observed_data=dict(work.rows.items()) if shape else {},
        log_likelihood={s: value[:kept] for s, value in densities.likelihood.items()}
        if shape else None,
        per_datum=_per_datum(work),
        num_chains=chains,
        factorised=densities.factorises,
        attrs=_attributes(work, effort),
    )  # fmt: skip
    groups = {**work.parts, "findings": findings_dataset(work.findings)}
    for name, dataset in groups.items():
        tree[name] = xr.DataTree(dataset)
    return tree


def _per_datum(work: Measuring) -> dict[str, Tensor]:
    one = not work.score.densities.factorises
    found = {
        "elbo": work.score.elbo,
        "log_evidence": work.evidence.value,
        "log_evidence_se": work.evidence.standard_error,
        "gap": work.evidence.value - work.score.elbo,
        "khat": work.score.khat,
        "ess": work.score.ess,
    }
    if not work.evidence.is_bound:
        found["tv"], found["tv_se"] = total_variation(work.score.log_weights, work.evidence.value)
    return {name: value.squeeze(0) if one else value for name, value in found.items()}


def _attributes(work: Measuring, effort: str) -> dict[str, Any]:
    densities = work.score.densities
    latents = [name for name in densities.global_sites if name in densities.prior]
    names = latents or list(densities.global_sites)
    number = work.rows.num_rows
    size = f"{number} row{'s' if number > 1 else ''}"
    outside = f" as one datum: {', '.join(names)} outside the plate 'data'" if names else ""
    return {
        "model": describe(work.model),
        "guide": name_of(work.guide),
        "data": size,
        "scored": f"{size}{outside}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": json.dumps({p: version(p) for p in ("pyrolvm", "torch", "pyro-ppl")}),
        "seed": work.seed,
        "num_particles": work.num_particles,
        "factorises": int(not names),
        "global_sites": json.dumps(names),
        "effort": effort,
    }
