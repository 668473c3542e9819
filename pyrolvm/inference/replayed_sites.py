"""Where the sites of a model stand in a run: layouts, names of plates, masks, densities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import MaskedDistribution, Unit
from torch import Tensor

from pyrolvm.core import sites as site_arrays
from pyrolvm.core.latent_site import LatentSite


@dataclass(frozen=True)
class ObservedSite:
    """One observed site of a model.

    Args:
        name: Of the site.
        value: What was observed, rows first where the site lies in the ``"data"`` plate.
        law: Its distribution in a single run.
        in_data_plate: Whether rows of the data come first.
        plates: Names of the batch axes of ``value``, rows included.
        keeps: Which entries no mask leaves out, of the shape of ``value``; None for all.
    """

    name: str
    value: Tensor
    law: Any
    in_data_plate: bool
    plates: tuple[str, ...]
    keeps: Tensor | None


def is_factor(site: Mapping[str, Any]) -> bool:
    """Whether a site only adds to the log density (``pyro.factor``) and observes nothing."""
    return isinstance(site["fn"], Unit) or isinstance(getattr(site["fn"], "base_dist", None), Unit)


def shape_of(site: Mapping[str, Any]) -> tuple[int, ...]:
    """Shape of a site's value."""
    return tuple(site["value"].shape)


def located(site: dict[str, Any], per_datum: bool) -> LatentSite:
    """Where a site's values go in a run; discrete sites too."""
    batch = site["value"].shape[: site["value"].dim() - site["fn"].event_dim]
    data_dim = site_arrays.data_dim(site) if per_datum else None
    around = {frame.dim for frame in site["cond_indep_stack"]}
    plates = tuple(
        (dim, batch[dim])
        for dim in range(-len(batch), 0)
        if dim != data_dim and (batch[dim] > 1 or dim in around)
    )
    event = tuple(site["value"].shape[len(batch) :])
    return LatentSite(site["name"], slice(0, 0), plates, data_dim, event, event)


def plate_names(site: dict[str, Any], shape: tuple[int, ...], rows_first: bool) -> tuple[str, ...]:
    """Names of the batch axes of a site's values, as ``value_of`` arranges them."""
    width = len(shape) - site["fn"].event_dim
    names = {frame.dim: frame.name for frame in site["cond_indep_stack"] if frame.dim is not None}
    data_dim = site_arrays.data_dim(site) if rows_first else None
    others = [dim for dim in range(-width, 0) if dim != data_dim]
    kept = [dim for dim in others if dim in names or shape[width + dim] > 1]
    first = [site_arrays.DATA_PLATE] if data_dim is not None else []
    return (*first, *(names.get(dim, "") for dim in kept))


def observed_site(site: dict[str, Any]) -> ObservedSite:
    """Read an observed site of a single run."""
    return ObservedSite(
        site["name"],
        site_arrays.value_of(site, None, True)[0],
        site["fn"],
        site_arrays.data_dim(site) is not None,
        plate_names(site, shape_of(site), True),
        _kept(site),
    )


def _kept(site: dict[str, Any]) -> Tensor | None:
    """Which entries of an observed value no mask leaves out; None where there is no mask."""
    law = site["fn"]
    masks = [] if site["mask"] is None else [(site["mask"], law.event_dim)]
    while hasattr(law, "base_dist"):
        if isinstance(law, MaskedDistribution):
            masks.append((law._mask, law.event_dim))
        law = law.base_dist
    keeps = torch.ones(shape_of(site), dtype=torch.bool)
    for mask, width in masks:
        laid = torch.as_tensor(mask, dtype=torch.bool)
        keeps = keeps & laid.reshape(laid.shape + (1,) * width).to(keeps.device)
    if keeps.all() or keeps.shape != shape_of(site):
        return None
    return site_arrays.value_of({**site, "value": keeps}, None, True)[0]


class _NoEvent:
    """Stands for a distribution whose values have no event dimensions."""

    event_dim = 0


def entries(site: dict[str, Any], particle_dim: int | None) -> Tensor:
    """Log density of a site outside the data plate, one figure for each of its batch entries."""
    raw = site_arrays.raw_log_density(site)
    if site["mask"] is not None:
        raw = torch.where(torch.as_tensor(site["mask"]), raw, 0.0)
    return site_arrays.value_of({**site, "value": raw, "fn": _NoEvent()}, particle_dim, True)
