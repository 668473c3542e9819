r"""Adam as a function of tensors, so that it can be compiled together with the loss.

.. math:: m \leftarrow m + (1 - \beta_1)(g - m), \qquad
          v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
          \theta \leftarrow \theta - \frac{\eta}{1 - \beta_1^t}
          \frac{m}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

A step whose loss or gradient is not finite changes nothing. The two corrections for the start are
inputs: in a compiled program they would be computed again for every few elements of a parameter.

References:
    Kingma & Ba (2015), Adam: A Method for Stochastic Optimization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamRule:
    """Settings of Adam that a compiled step holds fixed.

    Args:
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
        eps: What is added to the root of the latter.
        weight_decay: Added to the gradient, times the parameter.
        clamp: Largest component of a gradient; None for no bound.
        clip_norm: Largest norm of the whole gradient; None for no bound.
        eps_last: Whether ``eps`` is added after the correction of the root, as in
            ``torch.optim.Adam``; ``pyro.optim.ClippedAdam`` adds it before.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clamp: float | None = None
    clip_norm: float | None = None
    eps_last: bool = True

    def corrections(self, rate: float, taken: Any) -> tuple[Any, Any]:
        """Return the size of a step, and what the root of the mean square is multiplied by.

        Args:
            rate: Step size.
            taken: Steps that have been taken with this one: a number, or an array of them.
        """
        return rate / (1 - self.beta1**taken), (1 - self.beta2**taken) ** -0.5


@dataclass(frozen=True)
class AdamTensors:
    """What Adam remembers.

    Args:
        means: Mean gradient of each parameter.
        squares: Mean of its squares.
        steps: Steps that each parameter has taken, shape ``(len(means),)``.
    """

    means: Sequence[Tensor]
    squares: Sequence[Tensor]
    steps: Tensor

    def flat(self) -> list[Tensor]:
        """All tensors in one row."""
        return [*self.means, *self.squares, self.steps]

    @classmethod
    def of_flat(cls, tensors: Sequence[Tensor]) -> AdamTensors:
        """The reverse of :meth:`flat`."""
        count = len(tensors) // 2
        return cls(tensors[:count], tensors[count : 2 * count], tensors[2 * count])


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of a whole gradient, a tensor without dimensions."""
    return torch.stack([(gradient * gradient).sum() for gradient in gradients]).sum().sqrt()


def adam_step(
    rule: AdamRule,
    corrections: Tensor,
    going: Tensor,
    loss: Tensor,
    gradients: Sequence[Tensor],
    parameters: Sequence[Tensor],
    memory: AdamTensors,
) -> tuple[Tensor, Tensor]:
    """Update parameters and memory in place, where loss and gradients are finite.

    Args:
        rule: Settings.
        corrections: Those of the rule for each parameter, shape ``(2, len(parameters))``.
        going: Whether all steps so far were finite.
        loss: Of this step.
        gradients: One for each parameter.
        parameters: Changed in place.
        memory: Changed in place.

    Returns:
        Whether this step, too, was finite; the norm of its gradient.
    """
    norm = gradient_norm(gradients)
    going = going & torch.isfinite(norm) & torch.isfinite(loss)
    if rule.clip_norm is not None:
        shrink = torch.clamp(rule.clip_norm / norm, max=1.0)
        gradients = [gradient * shrink for gradient in gradients]
    updates = zip(parameters, gradients, memory.means, memory.squares, strict=True)
    for place, (parameter, gradient, mean, square) in enumerate(updates):
        size, factor = corrections[:, place].to(parameter.dtype).unbind()
        slope = gradient if rule.clamp is None else gradient.clamp(-rule.clamp, rule.clamp)
        if rule.weight_decay:
            slope = slope + rule.weight_decay * parameter
        new_mean = mean + (1 - rule.beta1) * (slope - mean)
        new_square = rule.beta2 * square + (1 - rule.beta2) * slope * slope
        if rule.eps_last:
            denominator = new_square.sqrt() * factor + rule.eps
        else:
            denominator = (new_square.sqrt() + rule.eps) * factor
        new = parameter - size * new_mean / denominator
        for old, value in ((parameter, new), (mean, new_mean), (square, new_square)):
            old.copy_(torch.where(going, value, old))
    memory.steps.add_(going.to(memory.steps.dtype))
    return going, norm
