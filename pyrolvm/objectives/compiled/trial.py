"""Trial runs: they change nothing for good, and what they change all the same is found out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.compiled.state import ProgramState

NUDGE = 1e-3
"""Relative change of the parameters between two captures."""


@contextmanager
def nudged(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Let parameters have slightly different values inside."""
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(1 + NUDGE)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


def _other_random_states() -> tuple[Any, ...]:
    """Python's and NumPy's, which a graph does not know."""
    kind, numbers, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - programs may use it
    return random.getstate(), kind, np.asarray(numbers).tobytes(), tuple(rest)


@contextmanager
def unchanged(state: ProgramState) -> Iterator[None]:
    """Refuse programs that change something when they run; tensors are put back.

    Raises:
        CaptureError: Naming what has changed.
    """
    tensors = [(tensor, tensor.detach().clone()) for tensor in state.tensors()]
    places = state.places()
    drawn = _other_random_states()
    changed: list[str] = []
    try:
        yield
        if _other_random_states() != drawn:
            changed.append("it draws random numbers from Python or NumPy")
        state.rebound |= places.rebound()
        found = places.change()
        if found is not None:
            changed.append(f"a run changes what it depends on: {found}")
    finally:
        places.restore()
        with torch.no_grad():
            for tensor, value in tensors:
                if not torch.equal(tensor, value) and not tensor.isnan().any():
                    changed.append(
                        "a run changes a tensor that outlives it (running statistics, or a "
                        f"buffer) of shape {tuple(tensor.shape)}"
                    )
                    tensor.copy_(value)
    if changed:
        raise CaptureError(changed[0])
