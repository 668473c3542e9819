"""Training steps of many pairs at once: one Adam over a stack, a stop for each member."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.objectives.ensemble_batches import MemberBatches
from pyrolvm.objectives.ensemble_members import PairTensors
from pyrolvm.objectives.ensemble_program import BatchedStep
from pyrolvm.objectives.fused_optimizer import decayed_rate
from pyrolvm.objectives.interruption import held_interrupt


@dataclass(frozen=True)
class Schedule:
    """What changes from step to step beside the data.

    Args:
        num_steps: Number of steps.
        learning_rate: Step size of Adam at the start.
        decay: Whether the step size falls along half a cosine.
        weights_at: Maps a step to weights of rates, shape ``(members, sites)``, or None.
    """

    num_steps: int
    learning_rate: float
    decay: bool
    weights_at: Callable[[int], Tensor | None]

    def rate_at(self, step: int) -> float:
        """Return the step size of a step."""
        if not self.decay:
            return self.learning_rate
        return decayed_rate(self.learning_rate, step, self.num_steps)


@dataclass
class EnsembleLoop:
    """The loop over steps of one stack.

    Args:
        stack: Tensors of all members; changed in place.
        step: Gives losses and gradients.
        batches: Minibatches of all members.
        schedule: Step sizes and weights.
        first: Losses and gradients of the first step.
    """

    stack: PairTensors
    step: BatchedStep
    batches: MemberBatches
    schedule: Schedule
    first: tuple[Tensor, list[Tensor]]
    losses: list[Tensor] = field(default_factory=list)
    stopped_at: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        learning = list(self.stack.learning.values())
        kinds = {tensor.device.type for tensor in learning}
        fused = kinds <= {"cpu", "cuda"} and all(t.is_floating_point() for t in learning)
        self._adam = torch.optim.Adam(learning, lr=self.schedule.learning_rate, fused=fused)
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._start: PairTensors | None = None

    def go(self, bar: tqdm) -> None:
        """Take all steps, or until no member is left.

        Args:
            bar: Shows the steps.
        """
        with held_interrupt() as interrupted:
            for step in range(self.schedule.num_steps):
                found = self.first if step == 0 else self._evaluate(step)
                self._take(step, *found)
                bar.update()
                if step % 50 == 49 or step == self.schedule.num_steps - 1:
                    bar.set_postfix_str(self._summary(), refresh=False)
                if interrupted():
                    raise KeyboardInterrupt
                if len(self.stopped_at) == self.num_members:
                    return

    @property
    def num_members(self) -> int:
        """Number of members."""
        return len(self.batches.seeds)

    def result(self, member: int) -> dict[str, Tensor]:
        """Return the tensors of a member: of a diverged one, those before its first bad step."""
        return self._kept.get(member) or self.stack.member(member)

    def history(self) -> Tensor:
        """Return losses in nats per datum, shape ``(members, num_steps)``; NaN after a stop."""
        losses = torch.full((self.num_members, self.schedule.num_steps), math.nan)
        if self.losses:
            taken = torch.stack(self.losses, 1)
            losses[:, : taken.shape[1]] = taken.to(losses)
        for member, step in self.stopped_at.items():
            losses[member, step:] = math.nan
        return losses

    def _evaluate(self, step: int) -> tuple[Tensor, list[Tensor]]:
        return self.step(self.stack, self.schedule.weights_at(step), self.batches.at(step))

    @torch.no_grad()
    def _take(self, step: int, losses: Tensor, gradients: Sequence[Tensor]) -> None:
        """Update all members whose loss and gradients are finite; stop the others for good."""
        self.losses.append(losses / self.batches.num_taken)
        if self.stopped_at or not _all_finite(losses, gradients):
            self._stop(step, _finite_members(losses, gradients))
            gone = torch.tensor(list(self.stopped_at), device=losses.device)
            for gradient in gradients:
                gradient.index_fill_(0, gone, 0.0)
        for tensor, gradient in zip(self.stack.learning.values(), gradients, strict=True):
            tensor.grad = gradient
        self._adam.param_groups[0]["lr"] = self.schedule.rate_at(step)
        self._adam.step()

    def _stop(self, step: int, finite: Tensor) -> None:
        """Keep the last good state of members, and let them idle at a state that can be run."""
        for member in torch.nonzero(~finite).flatten().tolist():
            if member in self.stopped_at:
                continue
            self.stopped_at[member] = step
            self._kept[member] = self.stack.member(member)
            for state in self._adam.state.values():
                for key in ("exp_avg", "exp_avg_sq"):
                    state[key][member] = 0.0

    def _summary(self) -> str:
        latest = torch.stack(self.losses[-50:]).mean(0)
        latest = latest[[m for m in range(self.num_members) if m not in self.stopped_at]]
        stopped = f", {len(self.stopped_at)} diverged" if self.stopped_at else ""
        return f"loss {latest.mean().item():.3f} nats{stopped}"


def _all_finite(losses: Tensor, gradients: Sequence[Tensor]) -> bool:
    norms = torch._foreach_norm([losses, *gradients])
    return math.isfinite(torch.stack(norms).sum().item())


def _finite_members(losses: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    finite = losses.isfinite()
    for gradient in gradients:
        finite = finite & gradient.reshape(len(gradient), -1).isfinite().all(1)
    return finite


def progress_bar(steps: int, progress: bool | str) -> tqdm:
    """Return a bar over steps, as ``fit`` shows one."""
    return tqdm(
        total=steps, disable=not progress, unit="step", dynamic_ncols=True,
        desc=progress if isinstance(progress, str) else "fit_ensemble",
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
    )  # fmt: skip
