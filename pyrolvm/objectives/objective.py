"""An objective of SVI that refuses a value that is not finite before anything is updated."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyro.infer import ELBO, Trace_ELBO
from torch import Tensor

from pyrolvm.core import NonFiniteLossError


@dataclass(frozen=True)
class Objective:
    """The two functions that ``pyro.infer.SVI`` takes, and what they check.

    Args:
        loss: Value alone.
        loss_and_grads: Value, with gradients left in the parameters.
        unchecked: The objective itself.
    """

    loss: Callable[..., Any]
    loss_and_grads: Callable[..., Any]
    unchecked: ELBO | Callable[..., Tensor]


def checked_objective(
    loss: ELBO | Callable[..., Tensor] | None,
    num_particles: int,
    plate_nesting: int,
    vectorise: bool = True,
) -> Objective:
    """Wrap an objective so that it refuses a value that is not finite.

    Args:
        loss: An objective of Pyro, a function, or None for the negative ELBO.
        num_particles: Draws of the guide for the latter.
        plate_nesting: Depth of the pair's plates.
        vectorise: Whether the pair may be run for all those draws at once.
    """
    if loss is None:
        loss = Trace_ELBO(
            num_particles=num_particles,
            vectorize_particles=vectorise and num_particles > 1,
            max_plate_nesting=plate_nesting,
        )
    elif isinstance(loss, ELBO) and math.isinf(loss.max_plate_nesting):
        particle_plate = loss.vectorize_particles and loss.num_particles > 1
        loss = copy.copy(loss)
        loss.max_plate_nesting = plate_nesting + int(particle_plate)
    objective: Any = loss
    is_elbo = isinstance(loss, ELBO)
    evaluate = objective.loss if is_elbo else objective

    def with_gradients(*args: Any, **kwargs: Any) -> float:
        if is_elbo:
            value = _number(objective.loss_and_grads(*args, **kwargs))
        else:
            tensor = objective(*args, **kwargs)
            if tensor.requires_grad:
                tensor.backward()
            value = tensor.item()
        if not math.isfinite(value):
            raise NonFiniteLossError(f"the loss is {value}")
        return value

    def value(*args: Any, **kwargs: Any) -> float:
        return _number(evaluate(*args, **kwargs))

    return Objective(value, with_gradients, objective)


def _number(value: Any) -> float:
    """Read a loss; some objectives of Pyro return one for the model and one for the guide."""
    return sum(map(float, value)) if isinstance(value, tuple) else float(value)
