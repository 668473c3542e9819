"""The memory of an optimizer that is Adam, shared with a compiled step.

The compiled step changes the very tensors that the optimizer holds. A plain step, a checkpoint or
``optim.save`` therefore finds them as if the optimizer had taken every step itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter, is_, itemgetter
from typing import Any

import numpy as np
import torch
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from torch import Tensor

from pyrolvm.objectives.compiled.adam import AdamRule, AdamTensors
from pyrolvm.objectives.fused_optimizer import FusedOptimizer

Group = dict[str, Any]
"""Settings of some parameters, as ``torch.optim`` keeps them."""
OTHER_RULES = ("amsgrad", "maximize", "decoupled_weight_decay", "centered_variance")
"""Settings that make another rule of Adam."""
SETTINGS = ("betas", "eps", "weight_decay", "clip_norm", *OTHER_RULES)
"""All settings that a compiled step holds fixed."""
_STATE = attrgetter("state")


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
        self._optim, self._owners = optim, tuple(owners)
        self._known = dict(optim.optim_objs)
        self._states = [owner.state[p] for owner, p in zip(owners, parameters, strict=True)]
        places = map(_place_of_group, owners, parameters)
        self._places = list(dict.fromkeys(zip(owners, places, strict=True)))
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
        keys = ("exp_avg", "exp_avg_sq", *([] if self._counts_in_python else ["step"]))
        self._holders = [state for state in self._states for _ in keys]
        self._keys = [*keys] * len(self._states)
        self._tensors = [state[key] for state in self._states for key in keys]
        groups = self._groups()
        self._rates = itemgetter(*(key for key in ("lr", "lrd") if key in groups[0]))
        self._settings = itemgetter(*(key for key in SETTINGS if key in groups[0]))
        self._fixed = list(map(self._settings, groups))

    def serves(self, parameters: Sequence[Tensor]) -> bool:
        """Whether this is the memory of these parameters, and :meth:`holds`."""
        same = len(parameters) == len(self.parameters) and all(
            one is other for one, other in zip(parameters, self.parameters, strict=True)
        )
        return same and self.holds()

    def holds(self) -> bool:
        """Whether the optimizer still holds these tensors, follows the rule, and has one rate."""
        return self._is_owned() and self._is_remembered() and self._follows_rule()

    def _is_owned(self) -> bool:
        if isinstance(self._optim, FusedOptimizer):
            return self._optim.adam is self._owners[0]
        known = self._optim.optim_objs
        return known == self._known or all(map(is_, map(known.get, self.parameters), self._owners))

    def _is_remembered(self) -> bool:
        states = map(dict.get, map(_STATE, self._owners), self.parameters)
        tensors = map(dict.get, self._holders, self._keys)
        return all(map(is_, states, self._states)) and all(map(is_, tensors, self._tensors))

    def _follows_rule(self) -> bool:
        groups = self._groups()
        if list(map(self._settings, groups)) != self._fixed:
            return False
        if isinstance(self._optim, FusedOptimizer):  # sets the rates of all groups itself
            return self._optim.clip_norm == self.rule.clip_norm
        rates = list(map(self._rates, groups))
        return rates.count(rates[0]) == len(rates) and not isinstance(groups[0]["lr"], Tensor)

    def _groups(self) -> list[Group]:
        return [owner.param_groups[place] for owner, place in self._places]

    def rate(self, ahead: int = 0) -> float:
        """Return the size of the next step, or of one after it."""
        if isinstance(self._optim, FusedOptimizer):
            return self._optim.next_rate(ahead)
        owner, place = self._places[0]
        group = owner.param_groups[place]
        return group["lr"] * group.get("lrd", 1.0) ** (1 + ahead)

    def corrections(self, ahead: int = 0) -> tuple[Any, Any]:
        """Return Adam's corrections of the next step, or of one after it, for each parameter."""
        if self._counts_in_python:
            counts = [float(state["step"]) for state in self._states]
        else:
            counts = self.memory.steps.numpy().tolist()
        are_equal = counts.count(counts[0]) == len(counts)
        taken = counts[0] if are_equal else np.array(counts)
        return self.rule.corrections(self.rate(ahead), taken + 1 + ahead)

    def took(self) -> None:
        """Count a step that was taken."""
        if isinstance(self._optim, FusedOptimizer):
            self._optim.step_count += 1
        elif self._counts_in_python:
            for state in self._states:
                state["step"] += 1
            for group in self._groups():
                group["lr"] *= group.get("lrd", 1.0)


def shared_adam(optim: PyroOptim, parameters: Sequence[Tensor]) -> SharedAdam | None:
    """Return an optimizer's Adam, or None if it is another rule, or several, or has not begun."""
    owners = _owners(optim, parameters)
    if owners is None:
        return None
    rules = {_rule(optim, owner, p) for owner, p in zip(owners, parameters, strict=True)}
    rule = rules.pop()
    if rules or rule is None:
        return None
    if any("exp_avg" not in owner.state[p] for owner, p in zip(owners, parameters, strict=True)):
        return None
    groups = [_group(owner, p) for owner, p in zip(owners, parameters, strict=True)]
    rates = {(group["lr"], group.get("lrd")) for group in groups}
    if len(rates) > 1 and not isinstance(optim, FusedOptimizer):
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


def _place_of_group(owner: torch.optim.Optimizer, parameter: Tensor) -> int:
    groups = owner.param_groups
    return next(k for k, g in enumerate(groups) if any(p is parameter for p in g["params"]))


def _group(owner: torch.optim.Optimizer, parameter: Tensor) -> Group:
    return owner.param_groups[_place_of_group(owner, parameter)]


def _rule(optim: PyroOptim, owner: torch.optim.Optimizer, parameter: Tensor) -> AdamRule | None:
    if type(owner) not in (torch.optim.Adam, ClippedAdam) or not parameter.is_floating_point():
        return None
    group = _group(owner, parameter)
    if any(group.get(name) for name in OTHER_RULES) or isinstance(group["lr"], Tensor):
        return None
    clipped = isinstance(owner, ClippedAdam)
    clamp = group["clip_norm"] if clipped and math.isfinite(group["clip_norm"]) else None
    beta1, beta2 = group["betas"]
    clip_norm = optim.clip_norm if isinstance(optim, FusedOptimizer) else None
    return AdamRule(
        beta1, beta2, group["eps"], group["weight_decay"], clamp, clip_norm, not clipped
    )
