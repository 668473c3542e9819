"""Densities on grids for pictures: the exact posterior of a few data, and each guide's over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import Data, Guide, Model, VectorLatent, evaluating, predictive, prior_predictive
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.tracing import log_density_at, log_joint_at
from pyrolvm.diagnostics.comparison_tree import Measured
from pyrolvm.inference.evidence import exact_evidence

DRAWN_LATENT_DIMS = (1, 2)
GRID_POINTS = 80
RECONSTRUCTION_DRAWS = 200


def choose_data(gap: Tensor, number: int) -> Tensor:
    """Choose data over the range of a per-datum quantity, the largest included.

    Args:
        gap: Shape ``(N,)``.
        number: How many to choose.

    Returns:
        Indices, shape ``(P,)``, from small to large values.
    """
    order = torch.argsort(gap.nan_to_num(posinf=1e300, neginf=-1e300))
    places = torch.linspace(0.1, 1.0, min(number, len(gap)))
    return order[((len(gap) - 1) * places).long()].unique_consecutive()


def picture_grid(draws: Tensor, points: int = GRID_POINTS) -> tuple[Tensor, ...]:
    """Grid coordinates that hold nearly all draws.

    Args:
        draws: Of all densities that the picture shows, shape ``(K, P, S)``.
        points: Number of points G an axis.

    Returns:
        S tensors of shape ``(P, G)``.
    """
    low, high = draws.quantile(0.002, dim=0), draws.quantile(0.998, dim=0)
    margin = 0.15 * (high - low) + 1e-6
    steps = torch.linspace(0, 1, points, dtype=draws.dtype, device=draws.device)
    start, end = low - margin, high + margin
    return tuple((start + (end - start) * steps[:, None, None]).permute(2, 1, 0).unbind(0))


def grid_values(axes: tuple[Tensor, ...]) -> Tensor:
    """Latent vectors of all grid points, ``(G^S, P, S)``, the first coordinate running fastest."""
    if len(axes) == 1:
        return axes[0].mT.unsqueeze(-1)
    first, second = axes
    size = first.shape[-1]
    columns = first.repeat(1, size), second.repeat_interleave(size, dim=1)
    return torch.stack(columns, dim=-1).transpose(0, 1)


def guide_log_density(guide: Callable[..., Any], data: Any, site: str, values: Tensor) -> Tensor:
    """Log density log q(z | x) of a guide at given latent vectors.

    Args:
        guide: A guide whose only latent site lies in the data plate.
        data: What the guide takes.
        site: Name of the latent site.
        values: Shape ``(K, N, S)``.

    Returns:
        Nats, shape ``(K, N)``.
    """
    with evaluating(guide):
        rows = Data.of(data).to(dtype=torch.float64)
        return log_density_at(guide, rows, {site: values.double()}, -2)[site]


def model_log_joint(model: Callable[..., Any], data: Any, site: str, values: Tensor) -> Tensor:
    """Log p(x, z) in nats, ``(K, N)``, at given latent vectors ``(K, N, S)``."""
    with evaluating(model):
        rows = Data.of(data).to(dtype=torch.float64)
        return log_joint_at(model, rows, {site: values.double()})


def on_grid(flat: Tensor, num_axes: int) -> Tensor:
    """Reshape densities ``(G^S, P)`` to ``(P, G)`` or ``(P, G, G)``, second coordinate first."""
    if num_axes == 1:
        return flat.mT
    size = round(flat.shape[0] ** 0.5)
    return flat.mT.reshape(-1, size, size)


def can_draw(pairs: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether posterior densities can be drawn: own programs, one site of 1 or 2 dimensions."""
    return all(
        isinstance(model, Model)
        and isinstance(guide, Guide)
        and isinstance(model, VectorLatent)
        and len(model.latent_sites) == 1
        and model.latent_dim in DRAWN_LATENT_DIMS
        for model, guide in pairs.values()
    )


def draw_pictures(
    pairs: Mapping[str, tuple[Any, Any]],
    scored: Data,
    chosen: Tensor,
    measured: Mapping[str, Measured],
    seed: int = 0,
) -> tuple[dict[str, tuple[tuple[str, ...], Tensor]], dict[str, dict[str, Tensor]]]:
    """Densities of chosen data on grids, and how each guide reconstructs those data.

    Args:
        pairs: Model and guide of each row; the posterior shown is that of the first row's model.
        scored: The scored data.
        chosen: Indices of the data to show, shape ``(P,)``.
        measured: Draws of each guide, which set the extent of the grids.
        seed: Of the draws behind prior samples and reconstructions.

    Returns:
        Variables of the group ``picture`` with their dimensions, and those of each guide: log
        densities in nats of shape ``(P, G)`` or ``(P, G, G)``, reconstructions ``(P, obs_dim)``.
    """
    with own_randomness(seed):
        return _drawn(pairs, scored, chosen, measured)


def _drawn(
    pairs: Mapping[str, tuple[Any, Any]],
    scored: Data,
    chosen: Tensor,
    measured: Mapping[str, Measured],
) -> tuple[dict[str, tuple[tuple[str, ...], Tensor]], dict[str, dict[str, Tensor]]]:
    model = next(iter(pairs.values()))[0]
    site = model.latent_sites[0]
    few = scored.rows(chosen)
    draws = torch.cat([each.posterior[site][:, chosen.cpu()] for each in measured.values()])
    axes = picture_grid(draws.to(chosen.device))
    values = grid_values(axes)
    shown: dict[str, tuple[tuple[str, ...], Tensor]] = {
        "datum": (("picture",), chosen),
        **{f"z_{i + 1}": (("picture", f"grid_{i + 1}"), axis) for i, axis in enumerate(axes)},
        **{name: (_dims(name, tensor), tensor) for name, tensor in few.items()},
        "prior_x": (("sample", "x_dim"), prior_predictive(model, 40, few).means["x"]),
    }
    exact = exact_evidence(model, few)
    if exact is not None:
        posterior = model_log_joint(model, few, site, values) - exact.value
        dims = ("picture", "grid_2", "grid_1") if len(axes) == 2 else ("picture", "grid_1")
        shown["log_density"] = (dims, on_grid(posterior, len(axes)))
    guides = {
        name: {
            "log_density": on_grid(guide_log_density(guide, few, site, values), len(axes)),
            "reconstruction": predictive(own, guide, few, RECONSTRUCTION_DRAWS).means["x"].mean(0),
        }
        for name, (own, guide) in pairs.items()
    }
    return shown, guides


def _dims(name: str, rows: Tensor) -> tuple[str, ...]:
    """Names of the dimensions of one argument of a program; labels have one dimension."""
    return ("picture",) if rows.dim() == 1 else ("picture", f"{name}_dim")
