"""What an ensemble minimises, and the weights of each member's rates as one tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

from pyrolvm.core.errors import SettingError
from pyrolvm.objectives.layerwise_elbo import LayerwiseELBO, WarmUp
from pyrolvm.objectives.rate_weights import (
    RateWeights,
    checked_weights,
    number,
    require_sites,
    unequal_to_one,
    weight_at,
)


@dataclass(frozen=True)
class MemberWeights:
    """Weights of the rates of all members, under one warm-up.

    Args:
        sites: Latent sites with weights; none where the plain ELBO is meant.
        weights: Shape ``(members, len(sites))``.
        warm_up: As in :class:`LayerwiseELBO`.
    """

    sites: tuple[str, ...]
    weights: Tensor
    warm_up: WarmUp | None = None

    def at(self, step: int) -> Tensor | None:
        """Return the weights of a step, shape ``(members, sites)``; None without any."""
        if not self.sites:
            return None
        if self.warm_up is None:
            return self.weights
        factors = self.warm_up(step)
        if not isinstance(factors, Mapping):
            factors = dict.fromkeys(self.sites, float(factors))
        require_sites(factors, self.sites, "warm_up")
        row = [number(weight_at(1.0, float(factors.get(site, 1.0)))) for site in self.sites]
        return self.weights * self.weights.new_tensor(row)


def member_weights(
    loss: Any,
    guides: Sequence[Any],
    given: Sequence[RateWeights | None],
    warm_up: WarmUp | None,
    sites: Sequence[str],
    like: Tensor,
) -> MemberWeights:
    """Read the weights of members: from the grid, else from the objective, else from the guide.

    Args:
        loss: The objective that was given, or None.
        guides: Of all members.
        given: Weights in the grid for each member.
        warm_up: Schedule that was given; else that of the objective.
        sites: Latent sites of the model.
        like: Gives the floating type and the device.

    Raises:
        SettingError: If a weight is negative, or weights are given beside an objective that
            takes none.
        UnknownNameError: If a name is not a latent site.
    """
    layerwise = isinstance(loss, LayerwiseELBO)
    common: RateWeights = loss.rate_weights if layerwise else {}
    warm_up = warm_up or (loss.warm_up if layerwise else None)
    rows = [
        {**(unequal_to_one(guide) if loss is None else {}), **common, **checked_weights(own)}
        for guide, own in zip(guides, given, strict=True)
    ]
    named = any(rows) or any(own is not None for own in given)
    if loss is not None and not layerwise and (named or warm_up is not None):
        raise SettingError(
            f"{type(loss).__name__} takes no rate_weights and no warm_up. Leave loss out, or give "
            "a LayerwiseELBO."
        )
    for row in rows:
        require_sites(row, sites, "rate_weights")
    weighted = tuple(sites) if layerwise or named or warm_up is not None else ()
    numbers = [[number(row.get(site, 1.0)) for site in weighted] for row in rows]
    tensor = torch.tensor(numbers, dtype=like.dtype, device=like.device)
    return MemberWeights(weighted, tensor, warm_up)


def analytic_and_particles(
    loss: Any, weighted: bool, num_particles: int
) -> tuple[bool, int, Callable[..., Any] | None]:
    """Read from an objective whether it takes closed forms, its particles, and what it stands for.

    Args:
        loss: None, a ``LayerwiseELBO``, or Pyro's ``Trace_ELBO`` or ``TraceMeanField_ELBO``.
        weighted: Whether rates have weights.
        num_particles: Used where there is no objective.

    Raises:
        SettingError: If it is another objective, or its weights follow targets.
    """
    if loss is None:
        standing = LayerwiseELBO() if weighted else None
        return weighted, num_particles, standing
    if type(loss) not in (LayerwiseELBO, Trace_ELBO, TraceMeanField_ELBO):
        raise SettingError(
            "fit_ensemble minimises the negative ELBO (loss=None, Trace_ELBO, "
            "TraceMeanField_ELBO) or a LayerwiseELBO, but loss is a "
            f"{type(loss).__name__}. Use lvm.fit for other objectives."
        )
    if isinstance(loss, LayerwiseELBO) and loss.targets:
        raise SettingError(
            "fit_ensemble takes weights, not targets, for the weights of members would then "
            "follow their own rates. Use lvm.fit, or a grid of rate_weights."
        )
    analytic = loss.analytic if isinstance(loss, LayerwiseELBO) else type(loss) is not Trace_ELBO
    return analytic, loss.num_particles, loss
