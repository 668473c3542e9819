"""Early stopping: watch a loss, and say when it has not fallen for too long."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Patience:
    """Keeps the best state, and says when no better one came for too many steps.

    Args:
        patience: Steps to wait for a better value.
        best: The smallest value so far.
        best_step: The step at which it came.
        best_state: The trained numbers at that step.
    """

    patience: int
    best: float = math.inf
    best_step: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

    INTERVAL = 100
    """Steps between two looks at the loss."""

    def ran_out(self, step: int, value: float, state: Callable[[], dict[str, Tensor]]) -> bool:
        """Take note of a value.

        Args:
            step: The number of steps taken.
            value: The loss that is watched, in nats per datum.
            state: Copies the trained numbers.

        Returns:
            Whether the wait since the best value is over.
        """
        if value < self.best:
            self.best, self.best_step, self.best_state = value, step, state()
            return False
        return bool(self.best_state) and step - self.best_step >= self.patience
