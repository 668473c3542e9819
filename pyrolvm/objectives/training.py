"""The surroundings of training: seeds, an isolated parameter store, frozen programs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import pyro
from pyro import poutine
from torch import nn

from pyrolvm.core import own_parameters
from pyrolvm.core.errors import SettingError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.reachable import reachable_modules
from pyrolvm.core.threads import limited_threads

Train = Literal["both", "guide", "model"]


@contextmanager
def training(
    model: Any, guide: Any, train: Train, seed: int, num_threads: int | None
) -> Iterator[tuple[Any, Any]]:
    """Seed, isolate the parameter store, freeze what does not learn; put all back afterwards."""
    if train not in ("both", "guide", "model"):
        raise SettingError(f"train should be 'both', 'guide' or 'model', but it is {train!r}.")
    with ExitStack() as stack:
        stack.enter_context(own_randomness(seed))
        stack.enter_context(limited_threads(num_threads))
        stack.enter_context(own_parameters(model, guide))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Encountered (NaN|[+-]?inf)")
        frozen = {"both": [], "guide": [model], "model": [guide]}[train]
        stack.callback(_clear_gradients, model, guide)
        for program in frozen:
            stack.enter_context(frozen_program(program))
        yield tuple(
            poutine.block(program, hide_types=["param"])
            if program in frozen and not isinstance(program, nn.Module)
            else program
            for program in (model, guide)
        )


@contextmanager
def frozen_program(program: Any) -> Iterator[None]:
    """Let a program not learn inside, and evaluate."""
    if not isinstance(program, nn.Module):
        yield
        return
    learning = [(parameter, parameter.requires_grad) for parameter in program.parameters()]
    modes = [(part, part.training) for part in program.modules()]
    try:
        for parameter, _ in learning:
            parameter.requires_grad_(False)
        program.eval()
        yield
    finally:
        for parameter, learns in learning:
            parameter.requires_grad_(learns)
        for part, mode in modes:
            part.training = mode


def _clear_gradients(*programs: Any) -> None:
    for module in reachable_modules(*programs):
        module.zero_grad(set_to_none=True)
    for _, value in pyro.get_param_store().named_parameters():
        value.grad = None
