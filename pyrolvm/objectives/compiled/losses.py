"""Any objective as a function from tensors to a loss, its gradients and what it remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import ELBO, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor

from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.compiled.unread_values import unread_values
from pyrolvm.objectives.layerwise_elbo import LayerwiseELBO
from pyrolvm.objectives.particle_objective import ParticleObjective

KNOWN_ELBOS = (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO, RenyiELBO, LayerwiseELBO)
"""Objectives of Pyro's kind whose step is a function of tensors; their subclasses need not be."""


@dataclass(frozen=True)
class StepValues:
    """What one step comes to.

    Args:
        loss: Without dimensions, in nats summed over data.
        gradients: Of each parameter; None for one that the loss does not depend on.
        terms: What the objective remembers of the step, by name: rates and distortion of a
            :class:`pyrolvm.objectives.LayerwiseELBO`, nothing of others.
    """

    loss: Tensor
    gradients: list[Tensor | None]
    terms: dict[str, Tensor]


def step_numbers(loss: Any, ahead: int = 0) -> dict[str, float]:
    """Return the numbers of an objective that may differ from step to step, by name.

    Args:
        loss: The objective.
        ahead: Which step is meant, 0 for the next.
    """
    return loss.weights_by_site(ahead) if isinstance(loss, LayerwiseELBO) else {}


def knows_later_steps(loss: Any) -> bool:
    """Whether these numbers do not depend on what the steps in between come to."""
    return not (isinstance(loss, LayerwiseELBO) and loss.targets)


def step_values(
    loss: Any,
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    parameters: Sequence[Tensor],
    numbers: Mapping[str, Tensor],
) -> StepValues:
    """Take a step of an objective as far as the gradients, without reading a value.

    Args:
        loss: The objective.
        model: A Pyro program.
        guide: A Pyro program.
        args: Their positional arguments.
        kwargs: Their arguments by name.
        parameters: What to differentiate with respect to.
        numbers: Those of :func:`step_numbers` as tensors.
    """
    terms: dict[str, Tensor] = {}
    with unread_values(parameters) as collected:
        if isinstance(loss, LayerwiseELBO):
            value, terms = loss.weighted_step(numbers, model, guide, *args, **kwargs)
        elif isinstance(loss, ELBO) and not isinstance(loss, TraceEnum_ELBO):
            value = loss.loss_and_grads(model, guide, *args, **kwargs)  # type: ignore[attr-defined]
        else:
            function = loss.differentiable_loss if isinstance(loss, TraceEnum_ELBO) else loss
            value = function(model, guide, *args, **kwargs)
            if value.requires_grad:
                collected.add(value)
        return StepValues(_plain(value), collected.gradients, terms)


def _plain(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise CaptureError(f"the objective returns {type(value).__name__}, not one tensor")
    return value.detach().reshape(())


def unvectorised(loss: Any, model: Any, guide: Any, args: Any, kwargs: Any) -> bool:
    """Whether an objective runs its particles one after another."""
    if isinstance(loss, ParticleObjective):
        return loss.num_particles > 1 and not loss.runs_at_once(model, guide, args, kwargs)
    return isinstance(loss, ELBO) and loss.num_particles > 1 and not loss.vectorize_particles


def evaluate(loss: Any, model: Any, guide: Any, args: Any, kwargs: Any) -> None:
    """Run an objective once without gradients, so that it finds out what it wants to know."""
    with torch.no_grad():
        value: Any = loss.loss if isinstance(loss, ELBO) else loss  # type: ignore[attr-defined]
        value(model, guide, *args, **kwargs)
