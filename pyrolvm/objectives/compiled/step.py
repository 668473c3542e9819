r"""The whole step as one program: loss, gradients and Adam, once or several times in a row.

.. math:: (\theta, m, v, t; c, \beta, x) \mapsto (\mathcal L, \|g\|, \text{terms}), \qquad
          \theta, m, v, t \text{ changed in place}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule

from pyrolvm.objectives.compiled.adam import AdamRule, AdamTensors, adam_step
from pyrolvm.objectives.compiled.capture import Captured
from pyrolvm.objectives.compiled.cheaper import cheaper
from pyrolvm.objectives.compiled.graph import program_of


@dataclass(frozen=True)
class WholeStep:
    """A captured step with Adam, as a graph on a row of tensors.

    Its inputs are parameters, Adam's tensors, fixed tensors, Adam's corrections for each parameter
    of shape ``(U, 2, parameter)``, numbers of shape ``(U, number)``, and the tensors of the call.
    It returns one tensor of shape ``(U, 2 + term)`` in double precision: loss, norm of the
    gradient, and terms of each step.

    Args:
        captured: Loss and gradients.
        rule: Settings of Adam.
        unroll: Number of steps U.
        chosen: Whether the tensors of the call hold more rows than a step takes; which rows each
            step takes is then the last input, shape ``(U, N)``.
    """

    captured: Captured
    rule: AdamRule
    unroll: int = 1
    chosen: bool = False

    def inputs(self, memory: AdamTensors, corrections: Tensor, numbers: Tensor) -> list[Tensor]:
        """All inputs but the tensors of the call; parameters without their gradients' history."""
        captured = self.captured
        own = [tensor.detach() for tensor in (*captured.parameters, *captured.fixed)]
        count = len(captured.parameters)
        return [*own[:count], *memory.flat(), *own[count:], corrections, numbers]

    def graph(self, inputs: Sequence[Tensor]) -> GraphModule:
        """Return the program for inputs like these."""
        return program_of(self._run, inputs)

    def _run(self, *flat: Tensor) -> tuple[Tensor]:
        captured = self.captured
        gradients = cheaper(captured.graph)
        count = len(captured.parameters)
        parameters, rest = flat[:count], flat[count:]
        memory, rest = AdamTensors.of_flat(rest[: 2 * count + 1]), rest[2 * count + 1 :]
        fixed, rest = rest[: len(captured.fixed)], rest[len(captured.fixed) :]
        corrections, numbers, *data = rest
        going = torch.ones((), dtype=torch.bool, device=parameters[0].device)
        found = []
        for place in range(self.unroll):
            batch = [t[data[-1][place]] for t in data[:-1]] if self.chosen else data
            given = numbers[place].unbind() if captured.numbers else ()
            loss, *values = gradients(*parameters, *fixed, *given, *batch)
            going, norm = adam_step(
                self.rule, corrections[place], going, loss, values[:count], parameters, memory
            )
            found.append(torch.stack([v.double() for v in (loss, norm, *values[count:])]))
        return (torch.stack(found),)
