"""The loop of SVI steps: minibatches, checkpoints, patience, and a stop at what is not finite."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import CheckpointError, Data, NonFiniteLossError, PyroLVMError
from pyrolvm.core.checkpoint import load_tensors, save_tensors
from pyrolvm.core.matching import run_once
from pyrolvm.core.program_state import load_program_state, program_state
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.bad_site import advice, bad_site
from pyrolvm.objectives.fused_optimizer import FusedOptimizer
from pyrolvm.objectives.interruption import held_interrupt
from pyrolvm.objectives.patience import Patience
from pyrolvm.objectives.row_order import RowOrder
from pyrolvm.objectives.running_statistics import RunningStatistics


class Remembers(Protocol):
    """An objective whose later steps depend on earlier ones."""

    def get_state(self) -> dict[str, Tensor]:
        """Return what it remembers."""
        ...

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Take over what it remembered."""
        ...


@dataclass
class SVILoop:
    """The loop over steps with everything that a checkpoint has to hold.

    Args:
        model: The model, as the user has it.
        guide: The guide, likewise.
        svi: Takes the steps.
        optimizer: That of ``svi``.
        rows: The data.
        size: Rows in a minibatch.
        seed: Seed of the minibatches.
        facts: What makes this fit another one than others, for the checkpoint.
        path: The checkpoint; None for none.
        patience: For early stopping; None for all steps.
        validation: The data that patience watches; None for the training loss.
        observer: Called with the number of steps at the start, now and then, and at the end.
        observe_every: Steps between two of its calls.
        memory: An objective that remembers its steps; None for others.
    """

    model: Any
    guide: Any
    svi: SVI
    optimizer: FusedOptimizer
    rows: Data
    size: int
    seed: int
    facts: dict[str, Any]
    path: Path | None
    patience: Patience | None = None
    validation: Data | None = None
    observer: Callable[[int], object] | None = None
    observe_every: int = 100
    memory: Remembers | None = None

    losses: list[float] = field(default_factory=list)
    stopped: bool = False
    _earlier: float = 0.0
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._order = RowOrder(self.rows.num_rows, self.size, self.seed)
        self._statistics = RunningStatistics(self.model, self.guide)

    @property
    def seconds(self) -> float:
        """Wall time, resumed parts included."""
        return self._earlier + time.perf_counter() - self._started

    def go(self, steps: int, every: int, progress: bool | str) -> None:
        """Take steps until there are enough of them, with a checkpoint now and then."""
        bar = tqdm(
            total=steps, initial=len(self.losses), disable=not progress, unit="step",
            desc=progress if isinstance(progress, str) else "fit", dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 5.0,
        )  # fmt: skip
        with bar, held_interrupt() as interrupted:
            self._observe(is_due=len(self.losses) % self.observe_every == 0)
            while len(self.losses) < steps and not self.stopped:
                self._step()
                bar.update()
                done = len(self.losses)
                if done % 50 == 0 or done == steps:
                    latest = self.losses[-50:]
                    text = f"loss {sum(latest) / len(latest):.3f} nats"
                    bar.set_postfix_str(text, refresh=False)
                self._watch(is_last=done == steps)
                last = done == steps or self.stopped
                self._observe(is_due=last or done % self.observe_every == 0)
                if done % every == 0 or last or interrupted():
                    self.save()
                if interrupted():
                    raise KeyboardInterrupt

    def _step(self) -> None:
        step = len(self.losses)
        whole = self.size >= self.rows.num_rows
        batch = self.rows
        if not whole:
            batch = batch.rows(self._order.chosen(step).to(batch.device))
        random_state = _random_state(self.rows.device)
        self._statistics.remember()
        try:
            with pyro.validation_enabled(step == 0):
                value = self.svi.step(*batch.args, **batch.named)
        except NonFiniteLossError as error:
            self._stop(step, str(error), batch, error, random_state)
        except PyroLVMError:
            raise
        except ValueError as error:
            if not bad_site(self.svi, batch):
                raise
            self._stop(step, "the loss is not finite", batch, error, random_state)
        self.losses.append(value / batch.num_rows)

    def _stop(
        self, step: int, what: str, batch: Data, error: Exception, random_state: dict[str, Tensor]
    ) -> NoReturn:
        """Put back what the failed step changed, keep that state, and name the site."""
        site, mend = bad_site(self.svi, batch), advice(self.svi, batch)
        self._statistics.put_back()
        _set_random_state(random_state, self.rows.device)
        self.save()
        kept = f" It is also in {self.path}." if self.path else ""
        raise NonFiniteLossError(
            f"Training stopped at step {step}: {what}{site}. Model and guide hold the last good "
            f"state.{kept} {mend}"
        ) from error

    def _watch(self, is_last: bool) -> None:
        """Stop where the loss has not fallen for too long; end with the best state."""
        step = len(self.losses)
        if self.patience is None or not (is_last or step % self.patience.INTERVAL == 0):
            return
        ran_out = self.patience.ran_out(step, self._watched_loss(), self.state)
        if ran_out or (is_last and self.patience.best_state):
            load_program_state(self.model, self.guide, self.patience.best_state, "the best state")
        self.stopped = ran_out

    def _observe(self, is_due: bool) -> None:
        if self.observer is not None and is_due:
            with own_randomness():
                self.observer(len(self.losses))

    def _watched_loss(self) -> float:
        if self.validation is None:
            recent = self.losses[-Patience.INTERVAL :]
            return sum(recent) / len(recent)
        with torch.no_grad(), own_randomness(self.seed):
            self._statistics.remember()
            total = self.svi.evaluate_loss(*self.validation.args, **self.validation.named)
            self._statistics.put_back()
        return total / self.validation.num_rows

    def state(self) -> dict[str, Tensor]:
        """Copy the trained numbers of the pair, without those that others keep in Pyro's store."""
        return {
            name: value
            for name, value in program_state(self.model, self.guide).items()
            if not name.startswith("store.") or name in self.optimizer.named
        }

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self.path is None:
            return
        groups = {
            "program": self.state(),
            "optimizer": self.optimizer.get_state(),
            "best": {} if self.patience is None else self.patience.best_state,
            "random": _random_state(self.rows.device),
            "objective": {} if self.memory is None else self.memory.get_state(),
        }
        tensors = {
            f"{g}.{name}": value for g, part in groups.items() for name, value in part.items()
        }
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        facts = {"fit": self.facts, "seconds": self.seconds, "stopped": self.stopped}
        if self.patience is not None:
            facts |= {"best": self.patience.best, "best_step": self.patience.best_step}
        save_tensors(self.path, tensors, facts)

    def resume(self) -> None:
        """Go on from the checkpoint.

        Raises:
            CheckpointError: If it cannot be read or belongs to another fit; it is left untouched,
                and so are model and guide.
        """
        assert self.path is not None
        tensors, facts = load_tensors(self.path)
        theirs = facts.get("fit", {})
        different = [key for key, value in self.facts.items() if theirs.get(key) != value]
        if different:
            raise CheckpointError(
                f"{self.path} belongs to another fit: it differs in {', '.join(different)}. "
                "Choose another checkpoint file, or delete this one."
            )
        with torch.no_grad():  # guides that set themselves up in their first run do so now
            run_once(self.svi.model, self.svi.guide, self.rows.rows(slice(0, self.size)))
        load_program_state(self.model, self.guide, _part(tensors, "program."), self.path)
        self.optimizer.set_state(_part(tensors, "optimizer."))
        if self.memory is not None:
            self.memory.set_state(_part(tensors, "objective."))
        self.losses = tensors["losses"].tolist()
        self.stopped, self._earlier = bool(facts["stopped"]), float(facts["seconds"])
        if self.patience is not None:
            self.patience.best, self.patience.best_step = facts["best"], facts["best_step"]
            self.patience.best_state = _part(tensors, "best.")
        _set_random_state(_part(tensors, "random."), self.rows.device)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """State of torch's random numbers on the CPU, and on the GPU that trains."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
