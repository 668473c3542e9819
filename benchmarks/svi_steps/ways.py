"""Ways to take the same step in PyTorch: Pyro's, ours, and by hand, each eager and compiled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor
from torch.func import functional_call, grad_and_value

from benchmarks.svi_steps.cases import LEARNING_RATE, Case
from pyrolvm.objectives import FusedOptimizer, checked_objective
from pyrolvm.objectives.compiled import CompiledSVI


class Way(ABC):
    """Something that trains a case.

    Args:
        case: The program.
    """

    name: str
    at_once = 1
    """Steps that one call takes."""

    def __init__(self, case: Case) -> None:
        self.networks, self.x = case.networks(), case.batch()

    @abstractmethod
    def call(self) -> float:
        """Take ``at_once`` steps; returns the last loss in nats, summed over rows."""

    def take(self, steps: int) -> float:
        """Take so many steps, a multiple of ``at_once``."""
        loss = 0.0
        for _ in range(steps // self.at_once):
            loss = self.call()
        return loss


class ByHand(Way):
    """PyTorch as one writes it: a loss, ``backward``, ``torch.optim.Adam``."""

    name = "by hand, eager"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.adam = torch.optim.Adam(self.networks.parameters(), lr=LEARNING_RATE)

    def call(self) -> float:
        """Take a step."""
        self.adam.zero_grad()
        loss = self.networks(self.x)
        loss.backward()
        self.adam.step()
        return loss.item()


class ByHandCompiled(Way):
    """The same loss, its gradient and Adam in one function under ``torch.compile``."""

    name = "by hand, compiled"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.parameters = {n: p.detach() for n, p in self.networks.named_parameters()}
        self.means = {n: torch.zeros_like(p) for n, p in self.parameters.items()}
        self.squares = {n: torch.zeros_like(p) for n, p in self.parameters.items()}
        self.count = torch.zeros(())
        self.step: Callable[..., Tensor] = torch.compile(
            self._step, fullgraph=True, options={"fallback_random": True}
        )

    def _step(
        self,
        parameters: dict[str, Tensor],
        means: dict[str, Tensor],
        squares: dict[str, Tensor],
        count: Tensor,
        x: Tensor,
    ) -> Tensor:
        def loss_at(given: dict[str, Tensor]) -> Tensor:
            return functional_call(self.networks, given, (x,))

        gradients, loss = grad_and_value(loss_at)(parameters)
        count.add_(1)
        rate = LEARNING_RATE / (1 - 0.9**count)
        root = (1 - 0.999**count).sqrt()
        for name, gradient in gradients.items():
            means[name].lerp_(gradient, 0.1)
            squares[name].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            parameters[name].sub_(rate * means[name] / (squares[name].sqrt() / root + 1e-8))
        return loss

    def call(self) -> float:
        """Take a step."""
        return self.step(self.parameters, self.means, self.squares, self.count, self.x).item()


class PyroSVI(Way):
    """Pyro as its tutorials write it: ``SVI``, ``Trace_ELBO``, ``pyro.optim.Adam``."""

    name = "Pyro SVI"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        optimizer = pyro.optim.Adam({"lr": LEARNING_RATE})
        self.svi = SVI(self.networks.model, self.networks.guide, optimizer, case.pyro_loss())

    def call(self) -> float:
        """Take a step."""
        loss = self.svi.step(self.x)
        return loss[0] if isinstance(loss, tuple) else loss


class Uncompiled(Way):
    """A step of ``lvm.fit(compile=False)``: one fused optimizer, checks that it is finite."""

    name = "PyroLVM, uncompiled"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        objective = checked_objective(case.our_loss(), case.num_particles, 1)
        self.svi = SVI(
            self.networks.model, self.networks.guide, FusedOptimizer(LEARNING_RATE),
            objective.loss, objective.loss_and_grads,
        )  # fmt: skip

    def call(self) -> float:
        """Take a step."""
        with pyro.validation_enabled(False):
            return self.svi.step(self.x)


class Compiled(Way):
    """``lvm.CompiledSVI`` in the place of ``SVI``."""

    name = "PyroLVM, compiled"

    def __init__(self, case: Case, unroll: int = 1) -> None:
        super().__init__(case)
        optimizer = pyro.optim.Adam({"lr": LEARNING_RATE})
        self.svi = CompiledSVI(
            self.networks.model, self.networks.guide, optimizer, case.our_loss(), unroll=unroll
        )

    def call(self) -> float:
        """Take a step."""
        return self.svi.step(self.x)


class Unrolled(Compiled):
    """The same with several steps in a call."""

    name = "PyroLVM, unrolled"

    def __init__(self, case: Case) -> None:
        super().__init__(case, case.unroll)
        self.at_once = case.unroll

    def call(self) -> float:
        """Take ``at_once`` steps."""
        return self.svi.steps(self.x)[-1]


def ways_of(case: Case) -> list[type[Way]]:
    """Return the ways that serve a case in PyTorch."""
    ways: list[type[Way]] = [ByHand, ByHandCompiled, PyroSVI, Uncompiled, Compiled]
    return [*ways, Unrolled] if case.unroll > 1 else ways
