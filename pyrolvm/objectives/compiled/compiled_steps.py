"""Steps with Adam inside, compiled as one program: one step in a call, or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor

from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.compiled.backend import Program, compiled, is_cached
from pyrolvm.objectives.compiled.call import TensorKind
from pyrolvm.objectives.compiled.capture import Captured
from pyrolvm.objectives.compiled.captured_step import CapturedStep, zeros
from pyrolvm.objectives.compiled.cost import saves_time
from pyrolvm.objectives.compiled.optimizers import SharedAdam
from pyrolvm.objectives.compiled.step import WholeStep


class CompiledSteps(CapturedStep):
    """Steps with Adam inside, one or several in a call, compiled as one program.

    Args:
        captured: Loss and gradients.
        loss: The objective.
        optim: The optimizer whose Adam it is.
        adam: Its tensors.
        unroll: Steps in a call.
        data: The tensors that each call gets; None for those of a single step.
        chosen: Whether each step takes rows of its own from them, shape ``(U, N)``.
    """

    def __init__(
        self,
        captured: Captured,
        loss: Any,
        optim: PyroOptim,
        adam: SharedAdam,
        unroll: int = 1,
        data: Sequence[Tensor] | None = None,
        chosen: Tensor | None = None,
    ) -> None:
        super().__init__(captured, loss, optim)
        self.adam, self.unroll = adam, unroll
        self._run: Program
        self._corrections = zeros(unroll, 2, len(captured.parameters))
        self._filled = self._corrections.numpy()
        self._numbers = zeros(unroll, len(captured.numbers))
        if data is None:
            data = [kind.example() for kind in captured.call.kinds]
        data = [*data, *([] if chosen is None else [chosen])]
        self._kinds = [TensorKind.of(tensor) for tensor in data]
        data = [tensor.contiguous() for tensor in data]
        whole = WholeStep(captured, adam.rule, unroll, chosen is not None)
        self._inputs = whole.inputs(adam.memory, self._corrections, self._numbers)
        self._examples = [*self._inputs, *data]
        self._whole = whole
        self._graph = replace(whole, unroll=1).graph(self._examples)

    def pays(self, num_steps: int) -> bool:
        """Whether compiling takes less time than so many steps save; on disk it is for nothing."""
        before, after = self.captured.graph.graph.nodes, self._graph.graph.nodes
        return saves_time(num_steps, len(before), len(after)) or is_cached(
            self._graph, self._examples
        )

    def compile(self) -> None:
        """Compile the program, or load it from disk.

        Raises:
            RuntimeError: If the compiler fails.
        """
        whole, examples = self._whole, self._examples
        unrolled = (lambda: whole.graph(examples)) if self.unroll > 1 else None
        self._run = compiled(self._graph, examples, unrolled)
        del self._graph, self._examples

    def ready(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor] | None:
        """Return the tensors of a call, or None where this is not the program for it."""
        return super().ready(args, kwargs) if self.adam.holds() else None

    def step(self, tensors: list[Tensor]) -> float:
        """Take a step; returns the loss in nats, summed over data."""
        self._fill_corrections()
        self._fill_numbers()
        value, norm, *terms = self._run([*self._inputs, *tensors])[0].tolist()[0]
        if not (math.isfinite(value) and math.isfinite(norm)):
            self._refuse(value, self._fresh_gradients(tensors))
            return value
        self.adam.took()
        self._note(value, terms)
        return value

    def _fill_corrections(self, place: int = 0) -> None:
        self._filled[place, 0], self._filled[place, 1] = self.adam.corrections(place)

    def serves(self, data: Sequence[Any], chosen: Tensor | None) -> bool:
        """Whether this is the program for several steps on such data."""
        given = [*data, *([] if chosen is None else [chosen])]
        return (
            len(given) == len(self._kinds)
            and all(kind.fits(tensor) for tensor, kind in zip(given, self._kinds, strict=True))
            and self.adam.holds()
            and self.is_current
        )

    def steps(self, data: Sequence[Tensor], chosen: Tensor | None = None) -> list[float]:
        """Take all steps of a call; returns the losses of those before one that is not finite.

        Random numbers then go on from before that one.

        Args:
            data: The tensors of the call.
            chosen: Rows of each step.
        """
        for place in range(self.unroll):
            self._fill_corrections(place)
            self._fill_numbers(place)
        start = _random_state(self._inputs[0].device)
        data = [tensor.contiguous() for tensor in data]
        given = [*data, *([] if chosen is None else [chosen.contiguous()])]
        losses: list[float] = []
        for value, norm, *terms in self._run([*self._inputs, *given])[0].tolist():
            if not (math.isfinite(value) and math.isfinite(norm)):
                _set_random_state(start, self._inputs[0].device)
                for place in range(len(losses)):
                    self._evaluate([t if chosen is None else t[chosen[place]] for t in data])
                break
            self.adam.took()
            self._note(value, terms)
            losses.append(value)
        return losses

    def _fresh_gradients(self, tensors: list[Tensor]) -> list[Tensor]:
        """Gradients of another draw, to name what is not finite in them."""
        with own_randomness():
            return self._evaluate(tensors)[1]


def _random_state(device: torch.device) -> Tensor:
    cuda = device.type == "cuda"
    return torch.cuda.get_rng_state(device) if cuda else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
