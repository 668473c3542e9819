"""Is a captured step the plain one? Both are taken from the same random numbers, once."""

from __future__ import annotations

import math

import torch

from pyrolvm.objectives.compiled.capture import Captured
from pyrolvm.objectives.compiled.losses import StepValues

TOLERANCE = 1e-4
"""Largest relative difference of loss and gradients to the plain step, in single precision."""


def difference_to_plain(captured: Captured, values: StepValues, loss: float) -> str | None:
    """Say where a captured step differs from the plain one just taken; None where it does not.

    Args:
        captured: The step.
        values: What it came to.
        loss: What the plain one came to; its gradients stand in the parameters.
    """
    if not math.isfinite(loss):
        return "the loss was not finite while it was compared"
    if not abs(values.loss.item() - loss) <= TOLERANCE * abs(loss):
        return f"the captured loss is {values.loss.item():.6g}, but the plain one {loss:.6g}"
    for parameter, gradient in zip(captured.parameters, values.gradients, strict=True):
        if not parameter.numel():
            continue
        plain = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert gradient is not None
        if not (gradient - plain).abs().max() <= TOLERANCE * plain.abs().max() + 1e-8:
            return f"the captured gradient of shape {tuple(gradient.shape)} is another one"
    return None
