"""What :func:`pyrolvm.identifiability.check` finds."""

from __future__ import annotations

from dataclasses import dataclass

from pyrolvm.identifiability.groups import Level, SymmetryGroup
from pyrolvm.identifiability.tasks import TASKS, TaskVerdict, verdict


@dataclass(frozen=True)
class IdentifiabilityReport:
    """Which maps of the latent space a model leaves open, if its likelihood is all that counts.

    It speaks of the population: of the law of x, and not of a finite sample or of what training
    reaches.

    Args:
        model: Name of the model's class.
        condition: The condition that decides, and whether it holds.
        group: What survives.
        rank: Rank that was found, where the condition is one of rank.
        needed_rank: Rank that it asks for.
        num_environments: Environments with a prior that counts; None without environments.
        needed_environments: How many the condition asks for.
        warnings: What the condition rests on and does not hold, or was not tested.
        task: The verdict on a task, where one was asked for.
    """

    model: str
    condition: str
    group: SymmetryGroup
    rank: int | None = None
    needed_rank: int | None = None
    num_environments: int | None = None
    needed_environments: int | None = None
    warnings: tuple[str, ...] = ()
    task: TaskVerdict | None = None

    @property
    def level(self) -> Level:
        """The smallest class of maps that holds those that survive."""
        return self.group.level

    @property
    def symmetries(self) -> tuple[str, ...]:
        """The maps that survive, a sentence each; empty where only the identity does."""
        return self.group.symmetries

    @property
    def is_strong(self) -> bool:
        """Whether an observation has one latent code, the same in every run."""
        return self.group.is_trivial

    @property
    def tasks(self) -> dict[str, TaskVerdict]:
        """Verdict on every task that is known."""
        return {name: verdict(name, self.group) for name in TASKS}

    def __str__(self) -> str:
        """Return level, condition, rank, symmetries and warnings, a line each."""
        lines = [
            f"{self.model}: identified {_in_words(self.level)}",
            f"condition: {self.condition}",
        ]
        if self.rank is not None:
            lines.append(f"rank: {self.rank} of {self.needed_rank} needed{self._environments()}")
        lines.append(f"surviving symmetries: {'; '.join(self.symmetries) or 'none'}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.task is not None:
            lines.append(f"task {self.task}")
        else:
            kept = [name for name, found in self.tasks.items() if found.is_invariant]
            lost = [name for name in TASKS if name not in kept]
            lines.append(f"tasks with one answer: {', '.join(kept)}")
            lines += [f"tasks without: {', '.join(lost)}"] if lost else []
        return "\n".join(lines)

    def _environments(self) -> str:
        if self.num_environments is None:
            return ""
        return f" ({self.num_environments} environments, {self.needed_environments} needed for it)"


def _in_words(level: Level) -> str:
    return {"strong": "strongly (one code for each observation)", "none": "not at all"}.get(
        level, level
    )
