r"""Rates that are asked for, instead of weights: dual ascent on the log weights while training.

.. math:: \log \beta_l \leftarrow \log \beta_l + \eta \, \frac{R_l - R_l^*}{R_l + R_l^*}

with R smoothed over steps. A layer above its target gets a larger weight, which pushes its rate
down. The smallest loss minus :math:`\sum_l \beta_l R_l^*` is concave in the weights, so that the
fixed point is the constrained optimum where a model and its guides can reach it at all; networks
need not be able to, and weights stay within bounds. The denominator makes a step of the same size
for large and small rates; it does not move the fixed point.

References:
    Rezende & Viola (2018), Taming VAEs (the constraint is on the distortion there).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyrolvm.core.errors import SettingError
from pyrolvm.objectives.rate_history import RateHistory

WEIGHT_RANGE = (1e-4, 1e4)
"""Where the ascent keeps the weights."""
SMOOTHING = 0.9
"""Share of the smoothed rate that the next step keeps."""
STEP_SIZE = 0.02
"""η, the largest change of a log weight in one step."""
TOLERANCE = 0.05
"""Relative distance from a target at which it counts as reached."""
LAST_SHARE = 0.1
"""Share of the steps, the last ones, over which rates are averaged for the report."""


@dataclass(frozen=True)
class TargetReport:
    """What became of the rates that were asked for.

    Args:
        targets: Rates that were asked for, by site, in nats per datum.
        rates: Rates that were reached: means over the last tenth of the steps.
        weights: Weights at the end.
        residuals: Reached minus asked for.
    """

    targets: dict[str, float]
    rates: dict[str, float]
    weights: dict[str, float]
    residuals: dict[str, float]

    @property
    def unreached(self) -> tuple[str, ...]:
        """Sites whose rate is further than 5 % from its target."""
        return tuple(
            name
            for name, target in self.targets.items()
            if not abs(self.residuals[name]) <= TOLERANCE * target
        )

    @property
    def is_reached(self) -> bool:
        """Whether every target was reached."""
        return not self.unreached

    def __str__(self) -> str:
        parts = [
            f"{name!r}: {self.rates[name]:.3g} nats for {target:.3g} "
            f"(residual {self.residuals[name]:+.2g}, weight {self.weights[name]:.3g})"
            for name, target in self.targets.items()
        ]
        return "; ".join(parts)


class DualAscent:
    """The weights of layers that have a target.

    Args:
        targets: Positive rate of a layer by site, in nats per datum.
        start: Weight of each at the first step, 1 where none is given.
        step_size: η above.

    Raises:
        SettingError: If a target, a weight or the step size is not positive.
    """

    def __init__(
        self,
        targets: Mapping[str, float],
        start: Mapping[str, float],
        step_size: float = STEP_SIZE,
    ) -> None:
        for name, target in targets.items():
            if not 0 < target < math.inf:
                raise SettingError(
                    f"A target rate should be positive and finite, but that of {name!r} is "
                    f"{target:g} nats. To switch a layer off, give it a large weight."
                )
            if not start.get(name, 1.0) > 0:
                raise SettingError(
                    f"The layer {name!r} has a target, so its first weight should be positive, "
                    f"but it is {start[name]:g}."
                )
        if not 0 < step_size < math.inf:
            raise SettingError(f"dual_step should be positive, but it is {step_size:g}.")
        self.targets, self.step_size = dict(targets), step_size
        self.log_weights = {name: math.log(start.get(name, 1.0)) for name in targets}
        self.smoothed: dict[str, float] = {}

    @property
    def weights(self) -> dict[str, float]:
        """The weights as they stand."""
        return {name: math.exp(value) for name, value in self.log_weights.items()}

    def update(self, rates: Mapping[str, Tensor]) -> None:
        """Move each log weight after a step that had these rates, in nats per datum."""
        low, high = map(math.log, WEIGHT_RANGE)
        for name, target in self.targets.items():
            now = float(rates[name])
            rate = SMOOTHING * self.smoothed.get(name, now) + (1 - SMOOTHING) * now
            self.smoothed[name] = rate
            excess = (rate - target) / (max(rate, 0.0) + target)
            moved = self.log_weights[name] + self.step_size * max(excess, -1.0)
            self.log_weights[name] = min(high, max(low, moved))

    def report(self, history: RateHistory) -> TargetReport:
        """Say what was reached.

        Raises:
            SettingError: If no step was taken.
        """
        if not len(history):
            raise SettingError("There is nothing to report before the first step. Train first.")
        last = math.ceil(LAST_SHARE * len(history))
        rates = {name: history.rates[name][-last:].mean().item() for name in self.targets}
        residuals = {name: rates[name] - target for name, target in self.targets.items()}
        return TargetReport(dict(self.targets), rates, self.weights, residuals)

    def get_state(self) -> dict[str, Tensor]:
        """Return the state as tensors by name, for a checkpoint."""
        return {
            f"{part}.{name}": torch.tensor(value, dtype=torch.float64)
            for part, values in (("log_weights", self.log_weights), ("smoothed", self.smoothed))
            for name, value in values.items()
        }

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of a checkpoint."""
        for key, value in state.items():
            part, name = key.split(".", 1)
            values = self.log_weights if part == "log_weights" else self.smoothed
            values[name] = value.item()
