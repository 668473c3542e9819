"""From the captured step of one member to compiled steps of all members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor
from torch.fx import GraphModule

from pyrolvm.objectives.compiled.backend import Program, compiled, has_compiler, is_cached
from pyrolvm.objectives.compiled.choice import FEWEST_STEPS, Compile
from pyrolvm.objectives.compiled.cost import SECONDS_TO_COMPILE, SECONDS_TO_START
from pyrolvm.objectives.compiled.ensemble_loop import BLOCK, CompiledLoop
from pyrolvm.objectives.compiled.ensemble_noise import MemberNoise, draws_as_inputs
from pyrolvm.objectives.compiled.ensemble_step import EnsembleState, EnsembleStep
from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.ensemble_batches import MemberBatches
from pyrolvm.objectives.ensemble_buffers import own_buffers
from pyrolvm.objectives.ensemble_loop import Schedule
from pyrolvm.objectives.ensemble_members import PairTensors
from pyrolvm.objectives.ensemble_program import CapturedMember

SECONDS_SAVED = 1e-5
"""What compiling saves in a step of all members, for each operation of the step of one."""
TOLERANCE = 1e-4
"""Largest relative difference of the first losses to those of the graph that is not compiled."""


def compiled_loop(
    choice: Compile,
    member: CapturedMember,
    stack: PairTensors,
    batches: MemberBatches,
    schedule: Schedule,
    first: Tensor,
) -> CompiledLoop:
    """Return compiled steps of an ensemble, none of them taken.

    Args:
        choice: True, or "auto": only where that pays.
        member: The step of one member.
        stack: Tensors of all members.
        batches: Their minibatches.
        schedule: Step sizes and weights.
        first: Losses of the first step in nats; those of the compiled one are compared with them.

    Raises:
        CaptureError: If it does not pay, or is not possible; says why.
    """
    if choice == "auto" and schedule.num_steps < FEWEST_STEPS:
        raise CaptureError(f"for fewer than {FEWEST_STEPS} steps compiling does not pay")
    if not has_compiler():
        raise CaptureError("there is no C++ compiler")
    alone = deepcopy(member.graph)
    num_data = len(list(batches.rows.items()))
    draws = draws_as_inputs(alone, member.num_inputs - num_data)
    own_buffers(alone, member.num_inputs - member.num_own)

    def loop(program: Program, stack: PairTensors) -> CompiledLoop:
        own = [torch.Generator(batches.rows.device).manual_seed(seed) for seed in batches.seeds]
        noise = MemberNoise(draws, own, min(BLOCK, schedule.num_steps))
        return CompiledLoop(EnsembleState.new(stack), program, batches, noise, schedule)

    step = EnsembleStep(
        alone, len(stack.learning), len(stack.fixed), num_data, len(draws),
        schedule.weights_at(0) is not None, batches.shared,
    )  # fmt: skip
    (trial,) = loop(_no_program, stack.copied()).inputs(0, 1)
    graph = step.graph(trial)
    if choice == "auto" and not _pays(schedule.num_steps, member.graph, graph, trial):
        raise CaptureError(f"for {schedule.num_steps} steps compiling does not pay")
    try:
        program = compiled(graph, trial)
        (losses,) = program(trial)
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise CaptureError(f"compiling failed: {reason}") from error
    if not torch.allclose(losses.to(first), first, rtol=TOLERANCE, atol=0, equal_nan=True):
        raise CaptureError("the compiled step computes other losses")
    return loop(program, stack)


def _pays(num_steps: int, alone: GraphModule, graph: GraphModule, inputs: list[Tensor]) -> bool:
    """Whether compiling takes less time than so many steps save; on disk it is for nothing."""
    saved = num_steps * len(alone.graph.nodes) * SECONDS_SAVED
    cost = SECONDS_TO_START + len(graph.graph.nodes) * SECONDS_TO_COMPILE
    return saved > cost or is_cached(graph, inputs)


def _no_program(inputs: list[Tensor]) -> Sequence[Tensor]:
    raise AssertionError("a trial only prepares the inputs of a step")
