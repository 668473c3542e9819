r"""Expectation-maximisation with an exact E-step, made monotone.

A sweep goes through the blocks: each hidden layer, the last layer with the noise, the prior (whose
gain the first layer takes over where the prior is fixed). The last two are exact M-steps. A hidden
layer's M-step is not, because its regions move: its solution is taken as a direction of ascent,
and the steps 1, 0.3, 0.09, ... along it are tried until the exact negative log likelihood falls.
The evaluation that accepts a step is the next E-step. So the likelihood never falls, whatever the
network.

The undamped variant puts each hidden layer where it is best on the old regions, unseen, with a
ridge towards zero, since the data determine fewer directions than a layer has.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks. The line search is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, Protocol

import numpy as np
import torch

from pyrolvm.core.errors import PyroLVMError
from pyrolvm.exact.folding import Array
from pyrolvm.exact.learning.expectation_step import ExpectationStep, expectation_step
from pyrolvm.exact.learning.layers import analytic_change, best_output, moved, proximal_change
from pyrolvm.exact.learning.learning_parts import LearningParts
from pyrolvm.exact.learning.prior import absorbed_prior, best_prior
from pyrolvm.exact.partition import DEFAULT_MAX_REGIONS
from pyrolvm.exact.stack import AffineStack

Update = Literal["safeguarded", "undamped"]

SHRINKAGE = 0.3
TRIALS = 9


class Keeper(Protocol):
    """Holds the generator that is being learned, maybe in single precision."""

    def put(self, stack: AffineStack) -> AffineStack:
        """Take a generator, and return what is held of it after rounding."""
        ...

    def keep(self) -> None:
        """Remember what was put last as the state to come back to."""
        ...


class _Nothing:
    """Holds every generator as it is."""

    def put(self, stack: AffineStack) -> AffineStack:
        return stack

    def keep(self) -> None:
        pass


@dataclass
class ExactEM:
    """The state between two sweeps.

    Args:
        stack: The generator to start from; float64 on the host, without a graph.
        x: Observations, ``(N, D)``, float64.
        learning: What may change.
        update: ``"safeguarded"``, or ``"undamped"`` for full steps of the hidden layers.
        ridge: Ridge of the hidden layers, as a share of the mean curvature: on their change, or,
            if undamped, on themselves.
        noise_floor: Smallest variance that the noise may fall to.
        max_regions: Most regions allowed.
        keeper: Where the generator is held.

    Attributes:
        step: The latest E-step, of the generator that was accepted last.
        failure: Why the undamped update could not go on; empty elsewhere.
    """

    stack: AffineStack
    x: Array
    learning: LearningParts
    update: Update = "safeguarded"
    ridge: float = 1e-6
    noise_floor: float = 0.0
    max_regions: int = DEFAULT_MAX_REGIONS
    keeper: Keeper = field(default_factory=_Nothing)

    def __post_init__(self) -> None:
        self.failure = ""
        self.step = expectation_step(self.stack, self.x, max_regions=self.max_regions)
        self.keeper.keep()

    @property
    def nll(self) -> float:
        """Exact negative log likelihood in nats per datum."""
        return self.step.nll

    def sweep(self) -> float:
        """Go through all blocks once.

        Returns:
            The negative log likelihood afterwards, in nats per datum.
        """
        learning = self.learning
        for layer in learning.hidden_layers:
            self._hidden(layer)
        if learning.output:
            self._exact(lambda: best_output(self.step, self.x, learning, self.noise_floor))
        if learning.prior:
            self._exact(lambda: best_prior(self.step, learning))
        elif learning.absorbs_prior and self.update == "safeguarded":
            self._exact(lambda: absorbed_prior(self.step))
        return self.nll

    def _hidden(self, layer: int) -> None:
        if self.failure:
            return
        if self.update == "undamped":
            change = analytic_change(self.step, layer, self.learning, self.ridge)
            self._take(moved(self.step.stack, layer, change, 1.0))
            return
        change = proximal_change(self.step, layer, self.learning, self.ridge)
        for trial in range(TRIALS):
            candidate = moved(self.step.stack, layer, change, SHRINKAGE**trial)
            if self._accept_if_better(candidate):
                return

    def _exact(self, maximise: Callable[[], AffineStack]) -> None:
        if self.failure:
            return
        try:
            candidate = maximise()
        except np.linalg.LinAlgError:
            return  # moments that rounding has left indefinite: nothing to gain here
        if self.update == "undamped":
            self._take(candidate)
        else:
            self._accept_if_better(candidate)

    def _accept_if_better(self, candidate: AffineStack) -> bool:
        try:
            found = self._evaluate(candidate)
        except PyroLVMError:
            return False
        if not found.nll < self.nll:
            return False
        self.step = found
        self.keeper.keep()
        return True

    def _take(self, candidate: AffineStack) -> None:
        try:
            found = self._evaluate(candidate)
        except PyroLVMError as error:
            self.failure = str(error)
            return
        if not isfinite(found.nll):
            self.failure = "the likelihood is not finite any more"
            return
        self.step = found
        self.keeper.keep()

    def _evaluate(self, candidate: AffineStack) -> ExpectationStep:
        held = self.keeper.put(candidate)
        before = self.step.stack
        output = zip(_output(held), _output(before), strict=True)
        same = all(torch.equal(new, old) for new, old in output)
        with np.errstate(all="ignore"):
            return expectation_step(
                held,
                self.x,
                reduced=self.step.reduced if same else None,
                partitions=self.step.partitions,
                max_regions=self.max_regions,
            )


def _output(stack: AffineStack) -> tuple[torch.Tensor, ...]:
    return stack.weights[-1], stack.biases[-1], stack.noise_scale
