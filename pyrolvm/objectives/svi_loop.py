"""The loop of SVI steps: minibatches, checkpoints, patience, and a stop at what is not finite."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI, Trace_ELBO
from torch import Tensor
from tqdm.auto import tqdm

from pyrolvm.core import CheckpointError, Data, NonFiniteLossError, tracing
from pyrolvm.core.checkpoint import load_tensors, save_tensors
from pyrolvm.core.program_state import load_program_state, program_state
from pyrolvm.objectives.fused_optimizer import FusedOptimizer


@dataclass(frozen=True)
class Objective:
    loss: Callable[..., Any]
    loss_and_grads: Callable[..., Any]


def checked_objective(
    loss: ELBO | Callable[..., Tensor] | None, num_particles: int, plate_nesting: int
) -> Objective:
    """Wrap an objective so that it refuses a value that is not finite before anything is updated.

    Args:
        loss: An objective of Pyro, a function, or None for the negative ELBO.
        num_particles: Draws of the guide for the latter.
        plate_nesting: Depth of the pair's plates.
    """
    if loss is None:
        loss = Trace_ELBO(
            num_particles=num_particles,
            vectorize_particles=num_particles > 1,
            max_plate_nesting=plate_nesting,
        )
    elif isinstance(loss, ELBO) and math.isinf(loss.max_plate_nesting):
        particle_plate = loss.vectorize_particles and loss.num_particles > 1
        loss.max_plate_nesting = plate_nesting + int(particle_plate)
    evaluate = loss.loss if isinstance(loss, ELBO) else loss

    def with_gradients(*args: Any, **kwargs: Any) -> float:
        if isinstance(loss, ELBO):
            value = loss.loss_and_grads(*args, **kwargs)
        else:
            tensor = loss(*args, **kwargs)
            if tensor.requires_grad:
                tensor.backward()
            value = tensor.item()
        if not math.isfinite(value):
            raise NonFiniteLossError(f"the loss is {value}")
        return value

    return Objective(evaluate, with_gradients)


class SVILoop:
    """The loop over steps with everything that a checkpoint has to hold."""

    def __init__(
        self, model: Any, guide: Any, svi: SVI, optimizer: FusedOptimizer, rows: Data, size: int, seed: int,
        facts: dict[str, Any], path: Path | None,
    ) -> None:  # fmt: skip
        self.model, self.guide, self.svi, self.optimizer = model, guide, svi, optimizer
        self.rows, self.size, self.seed, self.facts, self.path = rows, size, seed, facts, path
        self.losses: list[float] = []
        self.stopped = False
        self._earlier, self._started = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._earlier + time.perf_counter() - self._started

    def go(self, steps: int, every: int, monitor: Patience | None, progress: bool | str) -> None:
        bar = tqdm(
            total=steps, initial=len(self.losses), disable=not progress, unit="step",
            desc=progress if isinstance(progress, str) else "fit", dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 5.0,
        )  # fmt: skip
        try:
            with bar:
                while len(self.losses) < steps and not self.stopped:
                    self._step()
                    bar.update()
                    done = len(self.losses)
                    if done % 50 == 0 or done == steps:
                        bar.set_postfix_str(
                            f"loss {sum(self.losses[-50:]) / 50:.3f} nats", refresh=False
                        )
                    if monitor is not None and monitor.ran_out():
                        self.stopped = True
                    if done % every == 0 or done == steps or self.stopped:
                        self.save()
        except KeyboardInterrupt:
            self.save()
            raise

    def _step(self) -> None:
        step = len(self.losses)
        batch = (
            self.rows if self.size >= self.rows.num_rows else self.rows.rows(self._chosen(step))
        )
        try:
            with pyro.validation_enabled(step == 0):
                value = self.svi.step(*batch.args, **batch.named)
        except NonFiniteLossError as error:
            self.save()
            site = _bad_site(self.svi, batch)
            kept = f" It is also in {self.path}." if self.path else ""
            raise NonFiniteLossError(
                f"Training stopped at step {step}: {error}{site}. Model and guide hold the last good state.{kept} "
                "Try a smaller learning_rate, or clip_norm=10."
            ) from error
        self.losses.append(float(value) / batch.num_rows)

    def _chosen(self, step: int) -> Tensor:
        """Rows of a step: every epoch is a permutation of its own seed, so that any step can be redone."""
        per_epoch = self.rows.num_rows // self.size
        epoch, position = divmod(step, per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = (
                epoch,
                torch.randperm(self.rows.num_rows, generator=generator),
            )
        chosen = self._order[position * self.size : (position + 1) * self.size]
        return chosen.to(next(self.rows.items())[1].device)

    def save(self) -> None:
        if self.path is None:
            return
        tensors = {
            f"program.{name}": value
            for name, value in program_state(self.model, self.guide).items()
        }
        tensors |= {
            f"optimizer.{name}": value for name, value in self.optimizer.get_state().items()
        }
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        tensors["random_state"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random_state_cuda"] = torch.cuda.get_rng_state()
        extra = {"fit": self.facts, "seconds": self.seconds, "stopped": self.stopped}
        save_tensors(self.path, tensors, extra)

    def resume(self) -> None:
        assert self.path is not None
        tensors, extra = load_tensors(self.path)
        different = [
            key for key, value in self.facts.items() if extra.get("fit", {}).get(key) != value
        ]
        if different:
            raise CheckpointError(
                f"{self.path} belongs to another fit: it differs in {', '.join(different)}. "
                "Choose another checkpoint file, or delete this one."
            )
        with torch.no_grad():
            tracing.run_once(self.svi.model, self.svi.guide, self.rows.rows(slice(0, self.size)))
        load_program_state(self.model, self.guide, _part(tensors, "program."), self.path)
        self.optimizer.set_state(_part(tensors, "optimizer."))
        self.losses = tensors["losses"].tolist()
        self.stopped, self._earlier = bool(extra["stopped"]), float(extra["seconds"])
        torch.set_rng_state(tensors["random_state"])
        if "random_state_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random_state_cuda"])


class Patience:
    """Watches a loss and says when it has not fallen for too long."""

    INTERVAL = 100

    def __init__(self, patience: int, validation: Any, objective: Objective, run: SVILoop) -> None:
        self.patience, self.objective, self.run = patience, objective, run
        self.validation = None if validation is None else Data.of(validation)
        self.best, self.best_step, self.best_state = math.inf, 0, {}

    def ran_out(self) -> bool:
        step = len(self.run.losses)
        if step % self.INTERVAL:
            return False
        value = self._value()
        if value < self.best:
            self.best, self.best_step = value, step
            self.best_state = program_state(self.run.model, self.run.guide)
            return False
        if step - self.best_step < self.patience:
            return False
        load_program_state(self.run.model, self.run.guide, self.best_state, "the best state")
        return True

    def _value(self) -> float:
        if self.validation is None:
            return sum(self.run.losses[-self.INTERVAL :]) / self.INTERVAL
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(self.run.seed)
            model, guide = self.run.svi.model, self.run.svi.guide
            value = self.objective.loss(
                model, guide, *self.validation.args, **self.validation.named
            )
        return float(value) / self.validation.num_rows


def _bad_site(svi: SVI, batch: Data) -> str:
    """Name a site whose value or log density is not finite, as far as a fresh run shows one."""
    with torch.no_grad(), warnings.catch_warnings(), pyro.validation_enabled(False):
        warnings.simplefilter("ignore")
        for _ in range(20):
            guide = poutine.trace(svi.guide).get_trace(*batch.args, **batch.named)
            model = poutine.trace(poutine.replay(svi.model, guide)).get_trace(
                *batch.args, **batch.named
            )
            for where, trace in (("guide", guide), ("model", model)):
                for name, site in trace.nodes.items():
                    if site["type"] != "sample" or not isinstance(site["value"], Tensor):
                        continue
                    density = site["fn"].log_prob(site["value"])
                    if not (site["value"].isfinite().all() and density.isfinite().all()):
                        return f" (site {name!r} of the {where})"
    return ""


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
