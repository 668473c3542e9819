"""One optimizer for all parameters of an SVI step.

Pyro makes one ``torch.optim`` object a parameter, a third of the time of a small step.
``pyro.infer.SVI`` takes nothing but a ``PyroOptim``, so this one holds a single Adam over all
parameters that it has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pyro
import torch
from pyro.optim import PyroOptim
from torch import Tensor

from pyrolvm.core.errors import NonFiniteLossError

FINAL_FRACTION = 0.02
"""Share of the step size that is left at the end of a decay."""


def decayed_rate(
    learning_rate: float, step: int, num_steps: int, final_fraction: float = FINAL_FRACTION
) -> float:
    """Return the step size of a step, counted from 0, that falls along half a cosine.

    >>> decayed_rate(1.0, 0, 11), decayed_rate(1.0, 10, 11)
    (1.0, 0.02)
    """
    progress = min(1.0, step / max(1, num_steps - 1))
    fall = 0.5 * (1.0 + math.cos(math.pi * progress))
    return learning_rate * (final_fraction + (1.0 - final_fraction) * fall)


class FusedOptimizer(PyroOptim):
    """Adam over all parameters at once, with a cosine decay and a check that gradients are finite.

    Args:
        learning_rate: Step size at the start.
        num_steps: Steps over which the step size falls to ``final_fraction`` of that along half a
            cosine; None keeps it constant.
        final_fraction: Share of the step size that is left at the end.
        clip_norm: Largest norm of the whole gradient; longer ones are scaled down.
        name_of: Names a parameter for :meth:`get_state`, or returns None for one that must not
            change; without it, parameters are named as in Pyro's store.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        num_steps: int | None = None,
        final_fraction: float = FINAL_FRACTION,
        clip_norm: float | None = None,
        name_of: Callable[[Tensor], str | None] | None = None,
    ) -> None:
        super().__init__(torch.optim.Adam, {"lr": learning_rate})
        self.learning_rate, self.num_steps = learning_rate, num_steps
        self.final_fraction, self.clip_norm = final_fraction, clip_norm
        self.name_of = name_of or (lambda p: str(pyro.get_param_store().param_name(p)))
        self.step_count = 0
        self.named: dict[str, Tensor] = {}
        self._left_out: dict[int, Tensor] = {}
        self._adam: torch.optim.Adam | None = None
        self._waiting: dict[str, Tensor] = {}

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Take one step on every parameter that has a gradient.

        Raises:
            NonFiniteLossError: If a gradient is not finite; nothing has been changed then.
        """
        params = list(params)
        self._adopt(params)
        now = {id(p) for p in params}
        for parameter in self.named.values():
            if id(parameter) not in now:
                parameter.grad = None  # Pyro's, too, leaves alone what a step does not use
        gradients = [p.grad for p in self.named.values() if p.grad is not None]
        if not gradients:
            self.step_count += 1
            return
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).item()
        if not math.isfinite(norm):
            bad = ", ".join(self.bad_gradients())
            raise NonFiniteLossError(f"the gradient of {bad} is not finite")
        self.step_count += 1
        if self.clip_norm is not None and norm > self.clip_norm:
            torch._foreach_mul_(gradients, self.clip_norm / norm)
        assert self._adam is not None
        for group in self._adam.param_groups:
            group["lr"] = self.current_rate()
        self._adam.step()

    def current_rate(self) -> float:
        """Return the step size of the current step."""
        return self._rate_of(self.step_count - 1)

    def next_rate(self, ahead: int = 0) -> float:
        """Return the step size of the step to come, or of one after it."""
        return self._rate_of(self.step_count + ahead)

    def _rate_of(self, step: int) -> float:
        if self.num_steps is None:
            return self.learning_rate
        return decayed_rate(self.learning_rate, step, self.num_steps, self.final_fraction)

    @property
    def adam(self) -> torch.optim.Adam | None:
        """The optimizer of all parameters; None before the first step."""
        return self._adam

    def bad_gradients(self) -> list[str]:
        """Names of the parameters with a gradient that is not finite; all, where only a sum is."""
        found = {n: p.grad for n, p in self.named.items() if p.grad is not None}
        return [n for n, grad in found.items() if not grad.isfinite().all()] or list(found)

    def _adopt(self, params: Iterable[Tensor]) -> None:
        """Take in parameters that were not seen before, in the order of their names."""
        known = {id(parameter) for parameter in self.named.values()} | self._left_out.keys()
        fresh = [p for p in params if id(p) not in known and p.requires_grad]
        names = {id(p): self.name_of(p) for p in fresh}
        self._left_out |= {id(p): p for p in fresh if names[id(p)] is None}
        ordered = dict(
            sorted(
                ((name, p) for p in fresh if (name := names[id(p)]) is not None),
                key=lambda pair: pair[0],
            )
        )
        if not ordered:
            return
        self.named.update(ordered)
        added = list(ordered.values())
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in added)
        if self._adam is None:
            self._adam = torch.optim.Adam(added, lr=self.learning_rate, fused=fused)
        else:
            self._adam.add_param_group({"params": added})
        self._restore(ordered)

    def get_state(self) -> dict[str, Tensor]:
        """Return moments and step counts as flat tensors, by parameter name."""
        state = {"step_count": torch.tensor(self.step_count)}
        for name, parameter in self.named.items():
            for key, value in (self._adam.state[parameter] if self._adam else {}).items():
                state[f"{name}|{key}"] = value.detach().clone()
        return state

    def set_state(self, state_dict: dict[str, Tensor]) -> None:
        """Take an earlier optimizer's state over; a parameter gets its part when first seen."""
        waiting = dict(state_dict)
        self.step_count = int(waiting.pop("step_count"))
        self._waiting = waiting
        self._restore(self.named)

    def _restore(self, parameters: dict[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            keys = [key for key in self._waiting if key.rsplit("|", 1)[0] == name]
            if keys and self._adam is not None:
                self._adam.state[parameter] = {
                    key.rsplit("|", 1)[1]: self._waiting.pop(key).to(parameter.device).clone()
                    for key in keys
                }
