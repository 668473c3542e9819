"""A guide held at given latents: one run of the pair gives log p and log q at the truth.

Pyro's autoguides draw unconstrained values under names of their own, from which the latents
follow. These are held instead, where the latents say what they must be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer.autoguide import AutoContinuous, AutoNormal
from torch import Tensor
from torch.distributions import biject_to

from pyrolvm.core import LogDensities, sites
from pyrolvm.core.data import Data
from pyrolvm.core.errors import SiteError
from pyrolvm.core.matching import nan_sentence, run_once
from pyrolvm.core.summed_out import is_marked
from pyrolvm.core.tracing import Holding, PairTrace, run_pair

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class AtTruth:
    """A pair at given latents.

    Args:
        densities: Of one particle, the given latents, with its values.
        without_density: Why log q there means nothing; empty where it does.
    """

    densities: LogDensities
    without_density: str


def densities_at_truth(
    model: Callable[..., Any], guide: Callable[..., Any], data: Data, truth: Values
) -> AtTruth:
    """Log p(x, z) and log q(z | x) at given latents.

    Args:
        model: A Pyro program, in double precision.
        guide: A Pyro program, likewise.
        data: What both take.
        truth: By latent site, in the shapes of a run.

    Raises:
        SiteError: If model and guide do not match, or a log density is NaN.
    """
    alone = run_once(model, guide, data, is_marked)
    laws = {name: site["fn"] for name, site in alone.latents().items()}
    beside = {name for name in alone.guide_sites() if name not in laws}
    held, why = {name: truth[name] for name in laws}, ""
    if beside and (own := _own_names(guide, held, laws)).keys() == beside:
        held = own
    elif beside:
        why = f"the guide draws {', '.join(map(repr, sorted(beside)))} besides the latents"
    if getattr(guide, "extended_space", False):
        why = f"the density of {type(guide).__name__} is over a chain that ends at the latents"
    pair = run_pair(model, Holding(held)(guide), data, alone)
    return AtTruth(_densities(pair), why)


def _densities(pair: PairTrace) -> LogDensities:
    outside = tuple(name for name, site in pair.all_sites() if sites.data_dim(site) is None)
    terms = pair.model_terms(not outside)
    drawn = {n: sites.log_density(s, None, not outside) for n, s in pair.guide_sites().items()}
    for name, array in (*terms.prior.items(), *terms.likelihood.items(), *drawn.items()):
        if array.isnan().any():
            raise SiteError(nan_sentence(name))
    values = {n: sites.value_of(s, None, not outside) for n, s in pair.latents().items()}
    return LogDensities(terms.prior, drawn, terms.likelihood, values, outside)


def _own_names(guide: Any, truth: Values, laws: Mapping[str, Any]) -> dict[str, Tensor]:
    """What an autoguide draws where the latents are the given ones; empty for other guides."""
    free = {name: biject_to(law.support).inv(truth[name]) for name, law in laws.items()}
    if isinstance(guide, AutoNormal):
        return {f"{name}_unconstrained": value for name, value in free.items()}
    if isinstance(guide, AutoContinuous) and guide.prototype_trace is not None:
        order = [name for name, _ in guide.prototype_trace.iter_stochastic_nodes()]
        if free.keys() == set(order):
            joint = torch.cat([free[name].reshape(-1) for name in order])
            return {f"_{guide._pyro_name}_latent": joint}
    return {}
