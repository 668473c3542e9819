"""The fastest way to take a captured step with a user's optimizer."""

from __future__ import annotations

from typing import Any, Literal

from pyro.optim import PyroOptim

from pyrolvm.objectives.compiled.capture import Captured
from pyrolvm.objectives.compiled.captured_step import CapturedStep, FusedStep
from pyrolvm.objectives.compiled.compiled_steps import CompiledSteps
from pyrolvm.objectives.compiled.cost import saves_time
from pyrolvm.objectives.compiled.optimizers import SharedAdam
from pyrolvm.objectives.fused_optimizer import FusedOptimizer

Backend = Literal["inductor", "graph"]


def program_for(
    captured: Captured,
    loss: Any,
    optim: PyroOptim,
    adam: SharedAdam | None,
    backend: Backend,
    num_steps: int | None = None,
) -> tuple[CapturedStep, str]:
    """Return the fastest program for a captured step, and say in words what it is.

    Args:
        captured: Loss and gradients.
        loss: The objective.
        optim: The user's optimizer, which has taken a step.
        adam: Its memory; None if it is not Adam.
        backend: ``"inductor"`` compiles, ``"graph"`` runs the graph as it is.
        num_steps: Steps to come: it is compiled where that pays. None compiles in any case.
    """
    why = ""
    if backend == "inductor":
        program, how = _compiled_program(captured, loss, optim, adam, num_steps)
        if program is not None:
            return program, how
        why = f"; {how}"
    if adam is None or isinstance(optim, FusedOptimizer) or not adam.rule.eps_last:
        return CapturedStep(captured, loss, optim), f"the captured graph and its optimizer{why}"
    return FusedStep(captured, loss, optim, adam), f"the captured graph and a fused Adam{why}"


def _compiled_program(
    captured: Captured, loss: Any, optim: PyroOptim, adam: SharedAdam | None, num_steps: int | None
) -> tuple[CapturedStep | None, str]:
    """Compile what can be compiled, if that pays; says what was done, or why nothing was."""
    unpaid = f"compiling does not pay for {num_steps} steps"
    if adam is not None and not captured.parameters[0].is_cuda:
        program = CompiledSteps(captured, loss, optim, adam)
        if num_steps is not None and not program.pays(num_steps):
            return None, unpaid
        program.compile()
        return program, "the whole step is compiled"
    count = len(captured.graph.graph.nodes)
    if num_steps is not None and not saves_time(num_steps, count, count):
        return None, unpaid
    step = CapturedStep(captured, loss, optim)
    step.compile_gradients()
    return step, "loss and gradients are compiled, the optimizer is as it is"
