"""What exact learning keeps of a run: losses, time, states of the model, and a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core.checkpoint import load_tensors, save_tensors
from pyrolvm.core.errors import CheckpointError
from pyrolvm.core.program_state import load_program_state, program_state


@dataclass
class LearningRecord:
    """Losses and states of one run; a killed run goes on from its file.

    Args:
        model: The model that learns.
        guide: Its exact guide, without parameters.
        facts: What makes this run another one than others.
        path: The checkpoint; None for none.

    Attributes:
        losses: In nats per datum.
        stopped: Whether the run ended before all steps were taken.
        state: The numbers of the model to go on from.
    """

    model: Any
    guide: Any
    facts: dict[str, Any]
    path: Path | None
    losses: list[float] = field(default_factory=list)
    stopped: bool = False
    state: dict[str, Tensor] = field(default_factory=dict)
    _earlier: float = 0.0
    _started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Wall time, resumed parts included."""
        return self._earlier + time.perf_counter() - self._started

    def copy(self) -> dict[str, Tensor]:
        """Copy the numbers of the model."""
        return program_state(self.model, self.guide)

    def keep(self) -> None:
        """Remember the model as it is."""
        self.state = self.copy()

    def restore(self, state: dict[str, Tensor] | None = None) -> None:
        """Give the model a state, by default the one remembered."""
        load_program_state(self.model, self.guide, state or self.state, "the best state")

    def save(
        self,
        groups: Mapping[str, Mapping[str, Tensor]] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the checkpoint, whole or not at all.

        Args:
            groups: Further tensors, by the name of their group.
            facts: Further facts.
        """
        if self.path is None:
            return
        parts = {"program": self.state, **(groups or {})}
        tensors = {f"{g}.{name}": t for g, part in parts.items() for name, t in part.items()}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        own = {"fit": self.facts, "seconds": self.seconds, "stopped": self.stopped}
        save_tensors(self.path, tensors, {**own, **(facts or {})})

    def resume(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Go on from the checkpoint, if there is one.

        Returns:
            Further tensors by group, and the facts; both empty without a file.

        Raises:
            CheckpointError: If it cannot be read or belongs to another run; nothing has been
                changed then.
        """
        if self.path is None or not self.path.exists():
            return {}, {}
        tensors, facts = load_tensors(self.path)
        theirs = facts.get("fit", {})
        different = [key for key, value in self.facts.items() if theirs.get(key) != value]
        if different:
            raise CheckpointError(
                f"{self.path} belongs to another fit: it differs in {', '.join(different)}. "
                "Choose another checkpoint file, or delete this one."
            )
        self.losses = tensors.pop("losses").tolist()
        groups: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            group, name = key.split(".", 1)
            groups.setdefault(group, {})[name] = tensor
        self.state = groups.pop("program")
        load_program_state(self.model, self.guide, self.state, self.path)
        self.stopped, self._earlier = bool(facts["stopped"]), float(facts["seconds"])
        return groups, facts
