"""What every step of training said about each layer's rate and about the distortion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class RateHistory:
    """Rates, distortion and weights of each step, in nats per datum.

    Each entry is the estimate of one minibatch. Where the pair has no plate ``"data"``, the whole
    data set is one datum.
    """

    _rates: dict[str, list[Tensor]] = field(default_factory=dict)
    _weights: dict[str, list[Tensor]] = field(default_factory=dict)
    _distortion: list[Tensor] = field(default_factory=list)

    def append(
        self, rates: dict[str, Tensor], distortion: Tensor, weights: dict[str, Tensor]
    ) -> None:
        """Take note of one step.

        Args:
            rates: Unweighted rate of each layer, in nats per datum.
            distortion: Mean of -log p(x | z), in nats per datum.
            weights: Weight of each rate in this step.
        """
        if [*self._rates] != [*rates]:  # the first step, or the first after a checkpoint
            self._rates = {name: self._rates.get(name, []) for name in rates}
            self._weights = {name: self._weights.get(name, []) for name in rates}
        for name, rate in rates.items():
            self._rates[name].append(rate)
            self._weights[name].append(weights[name])
        self._distortion.append(distortion)

    def __len__(self) -> int:
        return len(self._distortion)

    @property
    def rates(self) -> dict[str, Tensor]:
        """Rate of each layer by site, one entry a step, shape ``(T,)``; never weighted."""
        return {name: _stacked(values) for name, values in self._rates.items()}

    @property
    def weights(self) -> dict[str, Tensor]:
        """Weight of each rate by site, one entry a step, shape ``(T,)``."""
        return {name: _stacked(values) for name, values in self._weights.items()}

    @property
    def distortion(self) -> Tensor:
        """Mean of -log p(x | z), one entry a step, shape ``(T,)``."""
        return _stacked(self._distortion)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a step: distortion, and rate and weight of each layer."""
        import pandas as pd

        columns = {"distortion": self.distortion}
        columns |= {f"rate {name}": values for name, values in self.rates.items()}
        columns |= {f"weight {name}": values for name, values in self.weights.items()}
        return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})

    def get_state(self) -> dict[str, Tensor]:
        """Return the history as tensors by name, for a checkpoint."""
        state = {"distortion": self.distortion}
        state |= {f"rates.{name}": values for name, values in self.rates.items()}
        state |= {f"weights.{name}": values for name, values in self.weights.items()}
        return state

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Take over the history of a checkpoint."""
        self._distortion = list(state["distortion"].unbind())
        self._rates = _lists(state, "rates.")
        self._weights = _lists(state, "weights.")


def _stacked(values: list[Tensor]) -> Tensor:
    return torch.stack(values).double() if values else torch.empty(0, dtype=torch.float64)


def _lists(state: dict[str, Tensor], prefix: str) -> dict[str, list[Tensor]]:
    return {
        name[len(prefix) :]: list(values.unbind())
        for name, values in state.items()
        if name.startswith(prefix)
    }
