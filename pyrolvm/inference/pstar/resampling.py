"""Draws with replacement by weight, from candidates that come in parts or stand side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import Data, SiteError, log_densities
from pyrolvm.core.guide import keep_the_contract

PARTICLES_AT_ONCE = 2**15
"""Draws, with all their latents, that are held at once."""


def resampled(parts: Iterable[tuple[Tensor, Tensor]], size: int) -> Tensor:
    """Draw with replacement by weight from candidates of which only one part is held at a time.

    Each slot takes a part's candidate with the part's share of the weight so far, which makes the
    result a multinomial draw from all of them.

    Args:
        parts: Candidates ``(n, ...)`` and their log weights ``(n,)``.
        size: Number of draws.

    Returns:
        Shape ``(size, ...)``.
    """
    drawn: Tensor | None = None
    total = torch.tensor(-torch.inf, dtype=torch.float64)
    for candidates, log_weight in parts:
        part = log_weight.logsumexp(0)
        total = torch.logaddexp(total.to(part), part)
        if part == -torch.inf:
            continue
        chosen = candidates[torch.multinomial((log_weight - part).exp(), size, replacement=True)]
        takes = torch.rand(size, device=part.device, dtype=part.dtype) < (part - total).exp()
        if drawn is None:
            drawn = chosen
        else:
            drawn[takes] = chosen[takes]
    if drawn is None:
        raise SiteError(
            "The guide gives no draw of the model any probability, so that none can be resampled. "
            "Train the pair with CoupledELBO first."
        )
    return drawn


def posterior_draws(
    model: Any, guide: Any, rows: Data, num_draws: int, num_particles: int
) -> dict[str, Tensor]:
    """Draw from p*(z | x) by resampling draws of the guide; some rows at a time where they can.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        rows: What both take.
        num_draws: Draws M for each datum.
        num_particles: Draws of the guide that they are chosen from.

    Returns:
        By latent site, shape ``(M, N, ...)``.
    """
    size = rows.num_rows
    if keep_the_contract(model, guide):
        size = max(1, PARTICLES_AT_ONCE // num_particles)
    parts = [
        _posterior_part(model, guide, rows.rows(slice(i, i + size)), num_draws, num_particles)
        for i in range(0, rows.num_rows, size)
    ]
    return {site: torch.cat([part[site] for part in parts], 1) for site in parts[0]}


def _posterior_part(
    model: Any, guide: Any, rows: Data, num_draws: int, num_particles: int
) -> dict[str, Tensor]:
    found = log_densities(model, guide, rows, num_particles=num_particles, keep_values=True)
    found.require_per_datum("a draw from p*(z | x)")
    weights = torch.softmax(found.log_weights / 2, 0)
    chosen = torch.multinomial(weights.mT, num_draws, replacement=True).mT
    datum = torch.arange(chosen.shape[1], device=chosen.device)
    return {site: value[chosen, datum] for site, value in found.values.items()}
