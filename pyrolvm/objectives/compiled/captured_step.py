"""Steps that take loss and gradients from a captured graph, and leave the rest to an optimizer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor

from pyrolvm.core.errors import NonFiniteLossError
from pyrolvm.objectives.compiled.backend import Program, as_cuda_graph, compiled
from pyrolvm.objectives.compiled.capture import Captured
from pyrolvm.objectives.compiled.graph import constants
from pyrolvm.objectives.compiled.guard import Guard
from pyrolvm.objectives.compiled.losses import step_numbers
from pyrolvm.objectives.compiled.optimizers import SharedAdam
from pyrolvm.objectives.fused_optimizer import FusedOptimizer
from pyrolvm.objectives.layerwise_elbo import LayerwiseELBO


class CapturedStep:
    """A step with the user's optimizer; the loss and its gradients come from the graph.

    Args:
        captured: Loss and gradients.
        loss: The objective.
        optim: The optimizer.
    """

    def __init__(self, captured: Captured, loss: Any, optim: PyroOptim) -> None:
        self.captured, self.loss, self.optim = captured, loss, optim
        self._gradients: Program = lambda inputs: captured.graph(*inputs)
        self._guard = Guard(
            captured.state, captured.parameters, list(constants(captured.graph).values())
        )
        self._numbers = zeros(1, len(captured.numbers))
        self._own = [t.detach() for t in (*captured.parameters, *captured.fixed)]

    def compile_gradients(self) -> None:
        """Compile loss and gradients, without the optimizer; on a GPU as a CUDA graph.

        Raises:
            RuntimeError: If the compiler fails.
        """
        batch = [kind.example() for kind in self.captured.call.kinds]
        examples = [*self._own, *self._numbers[0].unbind(), *batch]
        on_gpu = self._own[0].is_cuda
        self._gradients = (as_cuda_graph if on_gpu else compiled)(self.captured.graph, examples)

    def ready(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor] | None:
        """Return the tensors of a call, or None where this is not the program for it."""
        tensors = self.captured.call.tensors(args, kwargs)
        if tensors is None or self._guard.change() is not None:
            return None
        return tensors

    @property
    def is_current(self) -> bool:
        """Whether all that the program stands on is as it was."""
        return self._guard.change() is None

    def takes(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call has the form of this program, whatever else has changed."""
        return self.captured.call.tensors(args, kwargs) is not None

    def step(self, tensors: list[Tensor]) -> float:
        """Take a step; returns the loss in nats, summed over data."""
        loss, gradients, terms = self._evaluate(tensors)
        value, norm = self._loss_and_norm(loss, gradients)
        if not (math.isfinite(value) and math.isfinite(norm)):
            self._refuse(value, gradients)
            return value
        self._update(gradients)
        self._note(value, terms)
        return value

    def _loss_and_norm(self, loss: Tensor, gradients: list[Tensor]) -> tuple[float, float]:
        """The loss, and the sum of the gradients' norms; 0 where the optimizer checks these."""
        if isinstance(self.optim, FusedOptimizer) or not gradients:
            return loss.item(), 0.0
        norms = torch._foreach_norm(gradients)
        value, *sizes = torch.stack([loss.reshape(()), *norms]).tolist()
        return value, sum(sizes)

    def _update(self, gradients: list[Tensor]) -> None:
        parameters = self.captured.parameters
        try:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            self.optim(list(parameters))
        finally:
            for parameter in parameters:
                parameter.grad = None

    def _evaluate(self, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        self._fill_numbers()
        count = len(self.captured.parameters)
        with torch.no_grad():
            given = [*self._own, *self._numbers[0].unbind(), *tensors]
            loss, *rest = self._gradients(given)
        return loss, rest[:count], rest[count:]

    def _fill_numbers(self, ahead: int = 0) -> None:
        if self.captured.numbers:
            now = step_numbers(self.loss, ahead)
            for place, name in enumerate(self.captured.numbers):
                self._numbers[ahead, place] = now[name]

    def _note(self, value: float, terms: Sequence[Any]) -> None:
        if isinstance(self.loss, LayerwiseELBO):
            named = zip(self.captured.terms, map(torch.as_tensor, terms), strict=True)
            self.loss.note(value, dict(named))

    def _refuse(self, value: float, gradients: Sequence[Tensor]) -> None:
        """Say that a step is not finite, as the plain one does."""
        if not isinstance(self.optim, FusedOptimizer):
            what = "gradient" if math.isfinite(value) else "loss"
            warnings.warn(
                f"CompiledSVI met a {what} that is not finite, and left the step out.",
                stacklevel=4,
            )
            return
        if not math.isfinite(value):
            raise NonFiniteLossError(f"the loss is {value}")
        try:
            for parameter, gradient in zip(self.captured.parameters, gradients, strict=True):
                parameter.grad = gradient
            names = ", ".join(self.optim.bad_gradients())
        finally:
            for parameter in self.captured.parameters:
                parameter.grad = None
        raise NonFiniteLossError(f"the gradient of {names} is not finite")


class FusedStep(CapturedStep):
    """A step with torch's fused Adam on the tensors that Pyro's optimizers hold.

    Args:
        captured: Loss and gradients.
        loss: The objective.
        optim: The optimizer.
        adam: Its tensors.
    """

    def __init__(self, captured: Captured, loss: Any, optim: PyroOptim, adam: SharedAdam) -> None:
        super().__init__(captured, loss, optim)
        self.adam = adam
        self._steps = list(adam.memory.steps.unbind())

    def ready(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor] | None:
        """Return the tensors of a call, or None where this is not the program for it."""
        return super().ready(args, kwargs) if self.adam.holds() else None

    def _update(self, gradients: list[Tensor]) -> None:
        rule, memory = self.adam.rule, self.adam.memory
        torch._foreach_add_(self._steps, 1)
        torch._fused_adam_(
            self._own[: len(gradients)], gradients, list(memory.means), list(memory.squares), [],
            self._steps, lr=self.adam.rate(), beta1=rule.beta1, beta2=rule.beta2,
            weight_decay=rule.weight_decay, eps=rule.eps, amsgrad=False, maximize=False,
        )  # fmt: skip
        self.adam.took()


def zeros(*shape: int) -> Tensor:
    """Return zeros in double precision, on the CPU."""
    return torch.zeros(shape, dtype=torch.float64)
