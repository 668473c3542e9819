"""Compiled training steps of many pairs at once, prepared and read in blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.objectives.compiled.backend import Program
from pyrolvm.objectives.compiled.ensemble_noise import MemberNoise
from pyrolvm.objectives.compiled.ensemble_step import RULE, EnsembleState
from pyrolvm.objectives.ensemble_batches import MemberBatches
from pyrolvm.objectives.ensemble_loop import Schedule
from pyrolvm.objectives.interruption import held_interrupt

BLOCK = 32
"""Steps whose random numbers and rows are drawn, and whose losses are read, together."""


@dataclass
class CompiledLoop:
    """The loop over compiled steps of one stack.

    Args:
        state: Of all members; changed in place.
        program: Takes a step.
        batches: Minibatches of all members.
        noise: Random numbers of all members.
        schedule: Step sizes and weights.
        losses: Nats per datum of each block, shape ``(steps, members)``.
    """

    state: EnsembleState
    program: Program
    batches: MemberBatches
    noise: MemberNoise
    schedule: Schedule
    losses: list[Tensor] = field(default_factory=list)

    def go(self, bar: tqdm) -> None:
        """Take all steps, or until no member is left.

        Args:
            bar: Shows the steps.
        """
        with held_interrupt() as interrupted:
            for start in range(0, self.schedule.num_steps, BLOCK):
                count = min(BLOCK, self.schedule.num_steps - start)
                self.losses.append(self._block(start, count))
                bar.update(count)
                bar.set_postfix_str(self._summary(), refresh=False)
                if interrupted():
                    raise KeyboardInterrupt
                if not self.state.going.any():
                    return

    def result(self, member: int) -> dict[str, Tensor]:
        """Return the tensors of a member: of a diverged one, those before its first bad step."""
        return self.state.stack.member(member)

    def history(self) -> Tensor:
        """Return losses in nats per datum, shape ``(members, num_steps)``; NaN after a stop."""
        members = len(self.state.going)
        losses = torch.full((members, self.schedule.num_steps), math.nan)
        if self.losses:
            taken = torch.cat(self.losses).T
            losses[:, : taken.shape[1]] = taken.to(losses)
        return losses

    @property
    def stopped_at(self) -> dict[int, int]:
        """Step at which each diverged member stopped."""
        stopped = torch.nonzero(~self.state.going).flatten().tolist()
        return {member: int(self.history()[member].isfinite().sum()) for member in stopped}

    def inputs(self, start: int, count: int) -> list[list[Tensor]]:
        """Draw random numbers and rows, and return what each step of a block takes."""
        steps = range(start, start + count)
        self.noise.draw(count)
        chosen = self.batches.block(start, count)
        adam = [RULE.corrections(self.schedule.rate_at(step), step + 1) for step in steps]
        numbers = torch.tensor(adam, dtype=torch.float64)
        own, tables = self.state.flat(), [table for _, table in self.batches.rows.items()]
        return [
            [
                *own, *numbers[place].unbind(), *some(self.schedule.weights_at(step)),
                *self.noise.at(place), *tables, *some(None if chosen is None else chosen[place]),
            ]
            for place, step in enumerate(steps)
        ]  # fmt: skip

    @torch.no_grad()
    def _block(self, start: int, count: int) -> Tensor:
        losses = [self.program(inputs)[0] for inputs in self.inputs(start, count)]
        return torch.stack(losses) / self.batches.num_taken

    def _summary(self) -> str:
        latest = self.losses[-1].nanmean().item()
        stopped = int((~self.state.going).sum())
        return f"loss {latest:.3f} nats" + (f", {stopped} diverged" if stopped else "")


def some(tensor: Tensor | None) -> list[Tensor]:
    """Return a tensor that may not be there as a row."""
    return [] if tensor is None else [tensor]
