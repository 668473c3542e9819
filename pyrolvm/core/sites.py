"""What one site of a trace says, as arrays: particles first, data second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from pyrolvm.core.errors import SiteError

DATA_PLATE = "data"


def data_dim(site: dict[str, Any]) -> int | None:
    """Return the dimension of the ``"data"`` plate around a site, None if it lies outside."""
    for frame in site["cond_indep_stack"]:
        if frame.name == DATA_PLATE and frame.dim is not None:
            return int(frame.dim)
    return None


def num_data(found: Mapping[str, dict[str, Any]]) -> int:
    """Number of rows in the ``"data"`` plate around some sites."""
    frames = (frame for site in found.values() for frame in site["cond_indep_stack"])
    return next(int(frame.size) for frame in frames if frame.name == DATA_PLATE)


def delta_within(distribution: Any) -> Delta | None:
    """Return the point mass that a distribution wraps (or is), None for any other."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution if isinstance(distribution, Delta) else None


def log_density(site: dict[str, Any], particle_dim: int | None, per_datum: bool) -> Tensor:
    """Log density of one site: masked, scaled, summed over all but particles and data.

    The scale of a subsampled ``"data"`` plate is left out where densities are per datum.

    Args:
        site: A sample site of a trace.
        particle_dim: Dimension of the particle plate, None without one.
        per_datum: Whether every site of the pair lies in the data plate.

    Returns:
        Shape ``(K, N)`` in nats; ``(K, 1)`` where ``per_datum`` is false.

    Raises:
        SiteError: If validation finds the value outside the support.
    """
    return by_particle_and_datum(raw_log_density(site), site, particle_dim, per_datum)


def raw_log_density(site: dict[str, Any]) -> Tensor:
    """Log density of one site as its distribution gives it, neither masked nor scaled.

    Raises:
        SiteError: If validation finds the value outside the support.
    """
    try:
        return site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise SiteError(
            f"The value of site {site['name']!r} is not one that its distribution "
            f"{site['fn'].__class__.__name__} can give: {reason} Check the data and the guide."
        ) from error


def by_particle_and_datum(
    values: Tensor, site: dict[str, Any], particle_dim: int | None, per_datum: bool
) -> Tensor:
    """Mask and scale a quantity of one site, and sum it over all but particles and data.

    Args:
        values: Of the site's batch shape: its log density, or the KL from another law.
        site: A sample site of a trace.
        particle_dim: As in :func:`log_density`.
        per_datum: As in :func:`log_density`.

    Returns:
        Shape ``(K, N)``; ``(K, 1)`` where ``per_datum`` is false.
    """
    values = scale_and_mask(values, scale_of(site, per_datum), site["mask"])
    return keep_dims(values, [particle_dim, data_dim(site) if per_datum else None])


def scale_of(site: dict[str, Any], per_datum: bool) -> Any:
    """Factor of a site's log density; per datum, without that of a subsampled data plate."""
    plate = next((f for f in site["cond_indep_stack"] if f.name == DATA_PLATE), None)
    if not per_datum or plate is None or plate.full_size is None:
        return site["scale"]
    return site["scale"] / (plate.full_size / plate.size)


def keep_dims(tensor: Tensor, dims: list[int | None]) -> Tensor:
    """Sum over all but the given dimensions (None: a new one of size 1), and put those first."""
    width = max([tensor.dim(), *[-dim for dim in dims if dim is not None]])
    tensor = tensor.reshape((1,) * (width - tensor.dim()) + tensor.shape)
    kept = [width + dim for dim in dims if dim is not None]
    summed = [dim for dim in range(width) if dim not in kept]
    tensor = tensor.sum(summed, keepdim=True) if summed else tensor
    tensor = tensor.permute([*kept, *summed]).reshape([tensor.shape[dim] for dim in kept])
    for position, dim in enumerate(dims):
        if dim is None:
            tensor = tensor.unsqueeze(position)
    return tensor


def value_of(site: dict[str, Any], particle_dim: int | None, per_datum: bool) -> Tensor:
    """Value of a site with particles (and data) first: shape ``(K, N, ...)`` or ``(K, ...)``.

    Further plates of the site follow, then its event; dimensions of plates around other sites,
    in which this one has size 1, are left out.
    """
    event = site["fn"].event_dim
    value = site["value"]
    first = [dim for dim in (particle_dim, data_dim(site) if per_datum else None) if dim]
    plates = {frame.dim for frame in site["cond_indep_stack"]} | set(first)
    width = max(value.dim() - event, *[-dim for dim in plates if dim], 0)
    value = value.reshape((1,) * (width + event - value.dim()) + value.shape)
    value = value.movedim([width + dim for dim in first], list(range(len(first))))
    others = [dim for dim in range(-width, 0) if dim not in first]
    empty = [
        len(first) + position
        for position, dim in enumerate(others)
        if dim not in plates and value.shape[len(first) + position] == 1
    ]
    value = value.squeeze(empty)
    return value if particle_dim is not None else value.unsqueeze(0)
