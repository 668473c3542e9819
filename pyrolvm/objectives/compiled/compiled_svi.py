"""``pyro.infer.SVI`` whose steps are captured once and compiled.

The first two steps are plain: the first sets up what sets itself up in a first run, the second is
compared with the captured program, in loss and gradients. From the third on the program is taken.
Where a step is not one fixed program, or the program does not agree, all steps stay plain.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI
from pyro.optim import PyroOptim
from torch import Tensor

from pyrolvm.core.errors import require_at_least
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.compiled.backend import has_compiler
from pyrolvm.objectives.compiled.capture import Captured, capture
from pyrolvm.objectives.compiled.captured_step import CapturedStep
from pyrolvm.objectives.compiled.comparison import difference_to_plain
from pyrolvm.objectives.compiled.compiled_steps import CompiledSteps
from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.compiled.losses import StepValues, knows_later_steps, step_numbers
from pyrolvm.objectives.compiled.optimizers import SharedAdam, shared_adam
from pyrolvm.objectives.compiled.programs import Backend, program_for
from pyrolvm.objectives.objective import Objective

MOST_CAPTURES = 8
"""Captures after which a step counts as one that keeps changing."""


class CompiledSVI(SVI):  # type: ignore[misc]
    """A drop-in for ``pyro.infer.SVI``: the same steps from the same random numbers, faster.

    A call of another shape, type or device, a module that is switched between training and
    evaluation, a parameter that is frozen, set free or replaced, or anything else that the code of
    the programs looks up and that has changed: each leads to a new capture. After the first two
    steps data are not held against the support of their distributions, and a step whose loss or
    gradient is not finite is left out with a warning.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        optim: An optimizer of Pyro. ``Adam`` and ``ClippedAdam`` are compiled together with the
            loss, others are called as they are.
        loss: An objective of PyroLVM or of Pyro, or ``loss(model, guide, *args) -> Tensor``.
        backend: ``"inductor"`` compiles, ``"graph"`` runs the captured graph as it is, which needs
            no compiler; None takes the first where there is a C++ compiler.
        unroll: Steps that :meth:`steps` compiles into one call; above 1, single steps run the
            captured graph as it is.
        num_steps: Steps that will be taken: they are compiled where that pays. None compiles in
            any case.
        plain: How plain steps evaluate ``loss``; None for Pyro's way.
        quiet: Whether not to warn where steps stay plain.

    Attributes:
        reason: Why all steps are plain; None where they are not.
        how: What is done with the steps, in words.

    >>> from pyro.infer import Trace_ELBO
    >>> from pyrolvm import guides, models
    >>> model = models.LinearGaussian(1, 2)
    >>> guide = guides.Amortized(model, hidden=(4,))
    >>> svi = CompiledSVI(
    ...     model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), backend="graph"
    ... )
    >>> losses = [svi.step(torch.ones(5, 2)) for _ in range(3)]
    >>> svi.how
    'the captured graph and a fused Adam'
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: PyroOptim,
        loss: ELBO | Callable[..., Tensor],
        *,
        backend: Backend | None = None,
        unroll: int = 1,
        num_steps: int | None = None,
        plain: Objective | None = None,
        quiet: bool = False,
    ) -> None:
        if plain is None:
            super().__init__(model, guide, optim, loss)
        else:
            super().__init__(model, guide, optim, plain.loss, plain.loss_and_grads)
        require_at_least(1, unroll=unroll)
        self.objective, self.unroll = loss, unroll
        self.backend = backend or ("inductor" if has_compiler() else "graph")
        self.reason: str | None = None
        self.how = "plain steps so far"
        self._num_steps, self._quiet = num_steps, quiet
        self._programs: list[CapturedStep] = []
        self._unrolled: CompiledSteps | None = None
        self._adam: SharedAdam | None = None
        self._captures = 0
        self._steps = 0
        self._parts = self._own_parts()

    def __getstate__(self) -> dict[str, Any]:
        """Leave programs behind: a copy captures its own."""
        return self.__dict__ | {"_programs": [], "_unrolled": None, "_adam": None}

    def _own_parts(self) -> tuple[Any, ...]:
        return self.model, self.guide, self.optim, self.loss_and_grads

    def _heed_replacements(self) -> None:
        """Let go of all programs where the user has put in another model, guide or optimizer."""
        parts = self._own_parts()
        if all(map(operator.is_, parts, self._parts)):
            return
        if parts[-1] is not self._parts[-1]:
            self._stay_plain("its loss was replaced; make a new CompiledSVI for it")
        self._programs, self._unrolled, self._adam, self._parts = [], None, None, parts

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take a gradient step; returns the loss in nats, summed over data.

        Args:
            *args: What model and guide take.
            **kwargs: Likewise.
        """
        self._heed_replacements()
        for program in self._programs:
            tensors = program.ready(args, kwargs)
            if tensors is not None:
                return program.step(tensors)
        if self.reason is None and self._steps and torch.is_grad_enabled():
            return self._captured_step(args, kwargs)
        self._steps += 1
        return super().step(*args, **kwargs)

    def steps(self, *args: Any, chosen: Tensor | None = None) -> list[float]:
        """Take ``unroll`` gradient steps, in one call where that is possible.

        Args:
            *args: What model and guide take, or all rows of it.
            chosen: Rows of each step, shape ``(unroll, N)``; None for all rows in every step.

        Returns:
            The losses in nats, summed over data; fewer than ``unroll`` if one is not finite: that
            step and those after it have not been taken.
        """
        self._heed_replacements()
        unrolled = self._unrolled_for(args, chosen)
        if unrolled is not None:
            return unrolled.steps(args, chosen)
        if chosen is None:
            return [self.step(*args) for _ in range(self.unroll)]
        return [self.step(*(tensor[rows] for tensor in args)) for rows in chosen]

    def _unrolled_for(self, args: tuple[Any, ...], chosen: Tensor | None) -> CompiledSteps | None:
        """The program of several steps for a call; made at the first one that it can serve."""
        if self._unrolled is not None and self._unrolled.serves(args, chosen):
            return self._unrolled
        self._unrolled = None
        if self.backend != "inductor" or not knows_later_steps(self.objective):
            return None
        batch = args if chosen is None else tuple(tensor[chosen[0]] for tensor in args)
        for program in self._programs:
            if program.ready(batch, {}) is None:
                continue
            adam = self._adam_of(program.captured)
            if adam is not None:
                self._unrolled = self._compiled_steps(program, adam, args, chosen)
                return self._unrolled
        return None

    def _adam_of(self, captured: Captured) -> SharedAdam | None:
        """The optimizer's memory: one for all programs, for a second one would displace it."""
        if self._adam is None or not self._adam.serves(captured.parameters):
            self._adam = shared_adam(self.optim, captured.parameters)
        return self._adam

    def _compiled_steps(
        self,
        program: CapturedStep,
        adam: SharedAdam,
        args: tuple[Any, ...],
        chosen: Tensor | None,
    ) -> CompiledSteps | None:
        try:
            steps = CompiledSteps(
                program.captured, self.objective, self.optim, adam, self.unroll, args, chosen
            )
            steps.compile()
        except Exception as error:
            self._compiler_failed(error)
            return None
        self.how = f"{self.unroll} whole steps are compiled"
        return steps

    def _captured_step(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
        """Take a plain step, and compare it with a new capture."""
        self._programs = [each for each in self._programs if not each.takes(args, kwargs)]
        self._captures += 1
        try:
            if self._captures > MOST_CAPTURES:
                raise CaptureError(f"it has changed {MOST_CAPTURES} times")
            captured = self._capture(args, kwargs)
            with own_randomness():
                values = captured(args, kwargs, step_numbers(self.objective))
        except CaptureError as error:
            self._stay_plain(str(error))
            return super().step(*args, **kwargs)
        except Exception as error:  # if the program is at fault, the plain step says so, too
            self._stay_plain(f"it cannot be tried without gradients: {_in_a_line(error)}")
            return super().step(*args, **kwargs)
        loss, difference = self._compared_step(captured, values, args, kwargs)
        if difference is not None:
            self._stay_plain(difference)
        else:
            self._add_program(captured)
        return loss

    def _capture(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Captured:
        if pyro.poutine.runtime._PYRO_STACK:
            raise CaptureError("the step is taken inside a handler of Pyro")
        return capture(self.model, self.guide, self.objective, args, kwargs)

    def _compared_step(
        self,
        captured: Captured,
        expected: StepValues,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> tuple[float, str | None]:
        """Take a plain step; returns its loss, and where the captured one differs from it."""
        with poutine.trace(param_only=True) as met:
            loss = self.loss_and_grads(self.model, self.guide, *args, **kwargs)
        loss = float(loss)
        values: list[Any] = [site["value"] for site in met.trace.nodes.values()]
        params = {value.unconstrained() for value in values}
        found = difference_to_plain(captured, expected, loss)
        self.optim(list(params))
        pyro.infer.util.zero_grads(params)
        return loss, found

    def _add_program(self, captured: Captured) -> None:
        backend = "graph" if self.unroll > 1 else self.backend
        adam = self._adam_of(captured)
        try:
            program, self.how = program_for(
                captured, self.objective, self.optim, adam, backend, self._num_steps
            )
        except Exception as error:
            if backend == "graph":
                raise
            self._compiler_failed(error)
            program, self.how = program_for(captured, self.objective, self.optim, adam, "graph")
        self._programs.append(program)

    def _compiler_failed(self, error: Exception) -> None:
        self._warn(
            f"CompiledSVI runs the captured graph, for compiling it failed: {_in_a_line(error)}"
        )
        self.backend = "graph"

    def _stay_plain(self, reason: str) -> None:
        self.reason, self._programs = reason, []
        self.how = f"plain steps: {reason}"
        self._warn(f"CompiledSVI takes plain Pyro steps for {_name(self.model)}: {reason}.")

    def _warn(self, text: str) -> None:
        if not self._quiet:
            warnings.warn(text, stacklevel=4)


def _in_a_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


def _name(program: Any) -> str:
    return getattr(program, "__name__", type(program).__name__)
