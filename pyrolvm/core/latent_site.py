"""Where the latent sites of a program stand in its unconstrained vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to

from pyrolvm.core import sites
from pyrolvm.core.errors import SiteError


@dataclass(frozen=True)
class LatentSite:
    """Where one latent site stands in the vector.

    Args:
        name: Of the site.
        columns: Its columns of the vector.
        plates: Dimension and size of each batch dimension but those of particles and data, from
            the left.
        data_dim: Dimension of the plate ``"data"``; None outside it.
        event: Unconstrained event shape.
        support_event: Event shape of the site's values.
    """

    name: str
    columns: slice
    plates: tuple[tuple[int, int], ...]
    data_dim: int | None
    event: tuple[int, ...]
    support_event: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Unconstrained shape of one datum's part."""
        return (*(size for _, size in self.plates), *self.event)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """``z[0]``, ``z[1]``, …; the bare name where there is one number only."""
        size = math.prod(self.shape)
        if size == 1:
            return (self.name,)
        index = (torch.unravel_index(torch.tensor(i), self.shape) for i in range(size))
        return tuple(f"{self.name}[{','.join(str(int(k)) for k in each)}]" for each in index)

    def in_trace(self, values: Tensor, event: tuple[int, ...], particle_dim: int | None) -> Tensor:
        """Arrange values ``(K, N, plates…, event…)`` as the site has them in a trace."""
        if particle_dim is None:
            values = values[0]
        if self.data_dim is None:
            values = values.squeeze(0 if particle_dim is None else 1)
        firsts = [dim for dim in (particle_dim, self.data_dim) if dim is not None]
        dims = [*firsts, *(dim for dim, _ in self.plates)]
        order = sorted(range(len(dims)), key=lambda axis: dims[axis])
        rest = range(len(dims), len(dims) + len(event))
        sizes = {dims[axis]: values.shape[axis] for axis in order}
        width = max((-dim for dim in dims), default=0)
        batch = [sizes.get(dim, 1) for dim in range(-width, 0)]
        return values.permute([*order, *rest]).reshape((*batch, *event))


def located(latents: Mapping[str, dict[str, Any]], per_datum: bool) -> tuple[LatentSite, ...]:
    """Give each latent site its columns.

    Args:
        latents: Sites of a single run, by name.
        per_datum: Whether every site lies in the data plate.

    Raises:
        SiteError: If a site is discrete, or its support hangs on one that is summed out.
    """
    found, start = [], 0
    for name, site in latents.items():
        fn, value = site["fn"], site["value"]
        if fn.support.is_discrete:
            raise SiteError(
                f"The latent site {name!r} is discrete ({type(fn).__name__}) and has no finite "
                "support to be summed over; gradients and Gaussian fits need continuous latents."
            )
        event = tuple(fn.event_shape)
        width = value.dim() - len(event)
        point = biject_to(fn.support).inv(value)
        if point.shape[:width] != value.shape[:width]:
            raise SiteError(
                f"The support of the latent site {name!r} hangs on a site that is summed out, so "
                "that one point would mean several values. Give it a fixed support."
            )
        free = tuple(point.shape[width:])
        data_dim = sites.data_dim(site) if per_datum else None
        batch = [(dim, value.shape[width + dim]) for dim in range(-width, 0) if dim != data_dim]
        around = {frame.dim for frame in site["cond_indep_stack"]}
        plates = tuple((dim, size) for dim, size in batch if size > 1 or dim in around)
        size = math.prod((*(size for _, size in plates), *free))
        columns = slice(start, start + size)
        found.append(LatentSite(name, columns, plates, data_dim, free, event))
        start += size
    return tuple(found)
