"""What training a guide aims at, by the name that a study gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

from pyrolvm.objectives import forward_kl

Loss = Callable[..., Tensor]

OBJECTIVES: dict[str, Loss | None] = {"elbo": None, "forward-kl": forward_kl}
"""Losses by name; None is the negative ELBO, which Pyro has itself."""


def loss_of(objective: str, num_particles: int) -> Loss | None:
    """Loss of an objective, as :func:`pyrolvm.fit` takes it.

    Args:
        objective: A key of :data:`OBJECTIVES`.
        num_particles: Draws for each datum, over which a loss other than the ELBO is averaged.
    """
    one = OBJECTIVES[objective]
    if one is None or num_particles == 1:
        return one

    def loss(model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        args, kwargs = tree_map_only(
            Tensor, lambda rows: _repeated(rows, num_particles), (args, kwargs)
        )
        return one(model, guide, *args, **kwargs) / num_particles

    return loss


def _repeated(rows: Tensor, times: int) -> Tensor:
    return rows.repeat(times, *[1] * (rows.dim() - 1))
