"""Does the batched program compute for each member what the member's own program computes?

Only the first member's program is captured. A setting that is no tensor (an activation, a constant
in the code) would make all members the first one without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrolvm.core import Data, own_parameters
from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.ensemble_loss import EnsembleLoss
from pyrolvm.objectives.ensemble_members import PairTensors
from pyrolvm.objectives.ensemble_program import gradients_of

TOLERANCE = 1e-3
"""Largest relative difference; rounding in single precision leaves 1e-7 to 1e-4."""


def own_step(
    loss: EnsembleLoss, model: Any, guide: Any, batch: Data, weights: Tensor | None, seed: int
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and the gradients of a pair's own program in its first step.

    Args:
        loss: Of the pair.
        model: Its model.
        guide: Its guide.
        batch: Its first minibatch.
        weights: Weights of its rates, or None.
        seed: Of its random numbers.
    """
    with own_parameters(model, guide), own_randomness(seed), pyro.validation_enabled(False):
        value = loss(model, guide, batch, weights)
        learning = list(PairTensors.of(model, guide).learning.values())
        return value.detach(), gradients_of(value, learning)


def require_same_step(
    member: int,
    own: tuple[Tensor, list[Tensor]],
    batched: tuple[Tensor, Sequence[Tensor]],
    num_rows: int,
) -> None:
    """Refuse a member whose own first step is not that of the batched program.

    Args:
        member: Its number.
        own: Loss and gradients of its own program.
        batched: Those of all members.
        num_rows: Number of data in a step.

    Raises:
        IncompatiblePairError: If they differ by more than rounding.
    """
    losses, gradients = batched
    value, parts = own
    if not value.isfinite():
        return
    close = _close(losses[member], value, float(num_rows))
    flat = torch.cat([gradient[member].flatten() for gradient in gradients])
    close = close and _close(flat, torch.cat([part.flatten() for part in parts]), 1e-3 * num_rows)
    if not close:
        raise IncompatiblePairError(
            f"Member {member} computes something else than member 0 does with its parameters and "
            f"random numbers: its first loss is {value.item() / num_rows:.6g} nats per datum, the "
            f"batched one {losses[member].item() / num_rows:.6g}. In an ensemble only parameters, "
            "buffers and rate_weights may differ; train other settings (an activation, a constant "
            "in the code) with lvm.fit, or one ensemble for each."
        )


def _close(found: Tensor, expected: Tensor, unit: float) -> bool:
    difference = torch.linalg.vector_norm(found - expected).item()
    return difference <= TOLERANCE * (torch.linalg.vector_norm(expected).item() + unit)
