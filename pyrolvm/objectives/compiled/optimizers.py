"""The memory of an optimizer that is Adam, shared with a compiled step.

The compiled step changes the very tensors that the optimizer holds. A plain step, a checkpoint or
``optim.save`` therefore finds them as if the optimizer had taken every step itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor

from pyrolvm.objectives.compiled.adam import AdamRule, AdamTensors
from pyrolvm.objectives.fused_optimizer import FusedOptimizer


class SharedAdam:
    """Adam's tensors in an optimizer that has taken a step.

    Args:
        optim: Where they are.
        parameters: Those that a compiled step updates.
        owners: The optimizer of torch that holds each of them.
        rule: Its settings.
    """

    def __init__(
        self,
        optim: PyroOptim,
        parameters: Sequence[Tensor],
        owners: Sequence[torch.optim.Optimizer],
        rule: AdamRule,
    ) -> None:
        self.rule, self.parameters = rule, tuple(parameters)
        self._optim = optim
        self._states = [owner.state[p] for owner, p in zip(owners, parameters, strict=True)]
        self._groups = list({id(g): g for owner in owners for g in owner.param_groups}.values())
        self._counts_in_python = not isinstance(self._states[0]["step"], Tensor)
        steps = torch.tensor(
            [float(state["step"]) for state in self._states], device=parameters[0].device
        )
        self.memory = AdamTensors(
            [state["exp_avg"] for state in self._states],
            [state["exp_avg_sq"] for state in self._states],
            steps,
        )
        if not self._counts_in_python:
            for state, step in zip(self._states, steps, strict=True):
                state["step"] = step
        self._all_equal = bool((steps == steps[0]).all())
        self._held = [
            (state, key, state[key])
            for state in self._states
            for key in ("exp_avg", "exp_avg_sq", "step")
            if isinstance(state[key], Tensor)
        ]

    def serves(self, parameters: Sequence[Tensor]) -> bool:
        """Whether this is the memory of these parameters, and :meth:`holds`."""
        same = len(parameters) == len(self.parameters) and all(
            one is other for one, other in zip(parameters, self.parameters, strict=True)
        )
        return same and self.holds()

    def holds(self) -> bool:
        """Whether the optimizer still holds these tensors."""
        return all(state.get(key) is tensor for state, key, tensor in self._held)

    def rate(self, ahead: int = 0) -> float:
        """Return the size of the next step, or of one after it."""
        if isinstance(self._optim, FusedOptimizer):
            return self._optim.next_rate(ahead)
        group = self._groups[0]
        return group["lr"] * group.get("lrd", 1.0) ** (1 + ahead)

    def corrections(self, ahead: int = 0) -> tuple[Any, Any]:
        """Return Adam's corrections of the next step, or of one after it, for each parameter."""
        if self._counts_in_python:
            taken = self._states[0]["step"]
        else:
            counts = self.memory.steps.numpy()
            taken = float(counts[0]) if self._all_equal else counts.astype(float)
        return self.rule.corrections(self.rate(ahead), taken + 1 + ahead)

    def took(self) -> None:
        """Count a step that was taken."""
        if isinstance(self._optim, FusedOptimizer):
            self._optim.step_count += 1
        elif self._counts_in_python:
            for state in self._states:
                state["step"] += 1
            for group in self._groups:
                group["lr"] *= group.get("lrd", 1.0)


def shared_adam(optim: PyroOptim, parameters: Sequence[Tensor]) -> SharedAdam | None:
    """Return an optimizer's Adam, or None if it is another rule or has not begun."""
    owners = _owners(optim, parameters)
    if owners is None:
        return None
    rules = {_rule(optim, owner, p) for owner, p in zip(owners, parameters, strict=True)}
    rule = rules.pop()
    if rules or rule is None:
        return None
    if any("exp_avg" not in owner.state[p] for owner, p in zip(owners, parameters, strict=True)):
        return None
    if len({float(o.state[p]["step"]) for o, p in zip(owners, parameters, strict=True)}) > 1 and (
        isinstance(owners[0], ClippedAdam)
    ):
        return None
    return SharedAdam(optim, parameters, owners, rule)


def _owners(optim: PyroOptim, parameters: Sequence[Tensor]) -> list[torch.optim.Optimizer] | None:
    if isinstance(optim, FusedOptimizer):
        known = {id(p) for p in optim.named.values()}
        if optim.adam is None or any(id(p) not in known for p in parameters):
            return None
        return [optim.adam] * len(parameters)
    if type(optim) is not PyroOptim or optim.pt_clip_args or callable(optim.pt_optim_args):
        return None
    if any(p not in optim.optim_objs for p in parameters):
        return None
    return [optim.optim_objs[p] for p in parameters]


def _rule(optim: PyroOptim, owner: torch.optim.Optimizer, parameter: Tensor) -> AdamRule | None:
    if type(owner) not in (torch.optim.Adam, ClippedAdam) or not parameter.is_floating_point():
        return None
    group = owner.param_groups[0]
    others = ("amsgrad", "maximize", "decoupled_weight_decay", "centered_variance")
    if any(group.get(name) for name in others) or isinstance(group["lr"], Tensor):
        return None
    clipped = isinstance(owner, ClippedAdam)
    clamp = group["clip_norm"] if clipped and math.isfinite(group["clip_norm"]) else None
    beta1, beta2 = group["betas"]
    clip_norm = optim.clip_norm if isinstance(optim, FusedOptimizer) else None
    return AdamRule(
        beta1, beta2, group["eps"], group["weight_decay"], clamp, clip_norm, not clipped
    )
