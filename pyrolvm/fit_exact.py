"""Exact maximum likelihood by gradients: no guide, no sampling, L-BFGS or Adam.

The gradient is that of the exact log evidence (see :func:`pyrolvm.log_evidence`). It has no noise,
so that line searches and quasi-Newton steps work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import (
    EvidenceError,
    HasCode,
    HasOptimalLayers,
    HasPosterior,
    NonFiniteLossError,
    PiecewiseAffine,
)
from pyrolvm.core.checkpoint import tensor_digest
from pyrolvm.core.errors import SettingError, UnknownNameError, require_at_least, require_seed
from pyrolvm.core.pairing import offers
from pyrolvm.core.units import take_units
from pyrolvm.exact.folding import Array
from pyrolvm.fit import Fit
from pyrolvm.fit_em import observations_of
from pyrolvm.guides import Exact, ExactCode, ExactCPA, Layerwise
from pyrolvm.inference.evidence import has_exact_evidence
from pyrolvm.inference.exact_likelihood import ExactLikelihood, in_double_precision
from pyrolvm.inference.learning_record import LearningRecord
from pyrolvm.objectives import FusedOptimizer, Patience
from pyrolvm.objectives.interruption import held_interrupt

Optimizer = Literal["lbfgs", "adam"]

DEFAULT_STEPS = {"lbfgs": 200, "adam": 2000}
DEFAULT_RATE = 1e-2
SAVE_EVERY = 50
LOOK_EVERY = 10
FOREVER = 2**62


def fit_exact(
    model: Any,
    x: Any,
    *,
    optimizer: Optimizer = "lbfgs",
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    validation: Any = None,
    patience: int | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool | str = True,
) -> Fit:
    """Maximise the exact likelihood of a model by its exact gradient.

    The model computes in double precision while it learns, and is rounded to its own type at the
    end. It is left in the best state: by ``validation`` if that is given, else by the likelihood
    of all data, where that was evaluated (L-BFGS, or Adam on all rows). A noiseless flow that was
    not standardised before takes its units from ``x`` first.

    Args:
        model: A model whose evidence is known exactly (see :func:`pyrolvm.log_evidence`), for
            example ``CPAGenerator``, ``LinearGaussian`` or ``TriangularMap``.
        x: Observations, a tensor ``(N, obs_dim)`` or a mapping with this one tensor.
        optimizer: ``"lbfgs"``, on all rows; points at which the likelihood cannot be evaluated
            count as bad, and the line search turns back. Or ``"adam"``.
        steps: Most iterations; 200 for L-BFGS and 2,000 for Adam where it is None.
        batch_size: Rows in a minibatch of Adam; all where it is None.
        learning_rate: Step size of Adam at the start, 1e-2 where it is None; it falls along half a
            cosine.
        validation: Observations that choose the best state.
        patience: Stop after so many steps in which the loss (over ``validation`` if that is given)
            has not fallen.
        seed: Of the minibatches.
        checkpoint: File from which a killed run goes on, and to which it writes. L-BFGS goes on
            from its point, and learns the curvature anew.
        progress: Whether to show a progress bar; a text names it.

    Returns:
        The model, its exact posterior (of a flow, its exact code) as guide, and the losses in
        nats per datum: the exact negative log likelihood of all data after every iteration of
        L-BFGS, that of the minibatch before every step of Adam.

    Raises:
        EvidenceError: If the evidence of the model is not known exactly.
        DataError: If the data are empty, not finite, or of another shape.
        SettingError: If nothing learns, or a setting makes no sense.
        NonFiniteLossError: If a loss or gradient of Adam is not finite; the model keeps its best
            state.
        CheckpointError: If the checkpoint cannot be read or belongs to another fit.

    Example:
        >>> from pyrolvm import datasets, models
        >>> x = datasets.load("wave").train
        >>> fit = fit_exact(models.LinearGaussian(1, 2), x, progress=False)
        >>> bool(fit.losses[-1] < fit.losses[0])
        True
    """
    if optimizer not in DEFAULT_STEPS:
        raise UnknownNameError("optimizer", optimizer, DEFAULT_STEPS)
    steps = DEFAULT_STEPS[optimizer] if steps is None else steps
    require_seed(seed)
    require_at_least(0, steps=steps)
    _check_settings(optimizer, batch_size, learning_rate, patience)
    guide = _exact_guide(model)
    rows = observations_of(model, x)
    watched = None if validation is None else observations_of(model, validation)
    take_units(model, rows)
    facts = {
        "optimizer": optimizer, "steps": steps, "batch_size": batch_size, "seed": seed,
        "learning_rate": learning_rate, "patience": patience, "model": type(model).__qualname__,
        "data": tensor_digest(rows.items()),
        "validation": watched and tensor_digest(watched.items()),
    }  # fmt: skip
    record = LearningRecord(model, guide, facts, None if checkpoint is None else Path(checkpoint))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def prepared(data: Any) -> Tensor:
        return next(t for _, t in data.items()).to(device, torch.float64)

    likelihood = ExactLikelihood(model, prepared(rows))
    likelihood.parameters  # noqa: B018 - refuses a model in which nothing learns
    with in_double_precision(model):
        run = _Run(
            likelihood,
            record,
            Patience(FOREVER if patience is None else patience),
            None if watched is None else prepared(watched),
        )
        groups, saved = record.resume()
        run.take_over(groups, saved)
        try:
            if optimizer == "lbfgs":
                run.lbfgs(steps, progress)
            else:
                run.adam(steps, batch_size, learning_rate or DEFAULT_RATE, seed, groups, progress)
        finally:
            record.restore(run.patience.best_state or record.state)
    losses = torch.tensor(record.losses, dtype=torch.float64)
    return Fit(model, guide, losses, record.seconds, seed, len(losses) < steps)


def _check_settings(
    optimizer: str, batch_size: int | None, learning_rate: float | None, patience: int | None
) -> None:
    if optimizer == "lbfgs" and (batch_size is not None or learning_rate is not None):
        raise SettingError(
            "L-BFGS runs on all rows and finds its own step sizes, so that batch_size and "
            "learning_rate have no meaning. Leave them out, or use optimizer='adam'."
        )
    if batch_size is not None:
        require_at_least(1, batch_size=batch_size)
    if patience is not None:
        require_at_least(1, patience=patience)
    if learning_rate is not None and not learning_rate > 0:
        raise SettingError(f"learning_rate should be positive, but it is {learning_rate}.")


def _exact_guide(model: Any) -> Any:
    if not isinstance(model, nn.Module) or not has_exact_evidence(model):
        why = (
            f"with its {model.latent_dim} latent dimensions is none: the exact engine serves up "
            f"to {ExactCPA.max_latent_dim}"
            if offers(model, PiecewiseAffine)
            else "is none"
        )
        raise EvidenceError(
            f"fit_exact needs a module whose evidence is known exactly, but "
            f"{getattr(model, '__name__', type(model).__name__)} {why}. Train it with lvm.fit "
            "and a guide."
        )
    if offers(model, HasCode):
        return ExactCode(model)
    if offers(model, HasOptimalLayers):
        return Layerwise.optimal(model)
    return Exact(model) if offers(model, HasPosterior) else ExactCPA(model)


@dataclass
class _Run:
    """One run of an optimizer."""

    likelihood: ExactLikelihood
    record: LearningRecord
    patience: Patience
    validation: Tensor | None

    def take_over(self, groups: dict[str, dict[str, Tensor]], saved: dict[str, Any]) -> None:
        """Start from the model as it is, or from a checkpoint."""
        self.record.keep()
        if saved:
            self.patience.best, self.patience.best_step = saved["best"], saved["best_step"]
            self.patience.best_state = groups.get("best", {})

    def lbfgs(self, steps: int, progress: bool | str) -> None:
        """Limited-memory BFGS with a line search on the exact likelihood."""
        from scipy.optimize import minimize

        left = steps - len(self.record.losses)
        if left <= 0 or self.record.stopped:
            return
        start = self.likelihood.flat
        latest = self.likelihood.differentiate()  # errors at the start are the caller's to see

        def value(flat: Array) -> tuple[float, Array]:
            found = self.likelihood.at(flat)
            # A finite value lets the line search interpolate where there is none.
            return (latest + 10.0, 0.0 * flat) if found is None else found

        with self._bar(steps, progress) as bar, held_interrupt() as interrupted:

            def after(intermediate_result: Any) -> None:
                nonlocal latest
                latest = float(intermediate_result.fun)
                self.likelihood.assign(intermediate_result.x)
                self.record.losses.append(latest)
                self.record.keep()
                self.record.stopped = self._ran_out(latest)
                self._pause(steps, bar, interrupted)
                if self.record.stopped:
                    raise StopIteration

            options: Any = {
                "maxiter": left, "maxfun": 25 * left, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-9,
            }  # fmt: skip
            minimize(value, start, jac=True, method="L-BFGS-B", callback=after, options=options)
        self.record.stopped = True
        self._save()

    def adam(
        self,
        steps: int,
        batch_size: int | None,
        learning_rate: float,
        seed: int,
        groups: dict[str, dict[str, Tensor]],
        progress: bool | str,
    ) -> None:
        """Adam with a cosine decay, on minibatches or on all rows."""
        names = {id(p): name for name, p in self.likelihood.parameters.items()}
        optimizer = FusedOptimizer(learning_rate, steps, name_of=lambda p: names[id(p)])
        if "optimizer" in groups:
            optimizer.set_state(groups["optimizer"])
        rows, losses = self.likelihood.x, self.record.losses
        size = min(batch_size or len(rows), len(rows))
        with self._bar(steps, progress) as bar, held_interrupt() as interrupted:
            while len(losses) < steps and not self.record.stopped:
                loss = self.likelihood.differentiate(_batch(rows, size, len(losses), seed))
                if not isfinite(loss):
                    raise NonFiniteLossError(
                        f"Training stopped at step {len(losses)}: the likelihood is not finite. "
                        "The model holds the best state. Lower learning_rate."
                    )
                losses.append(loss)
                self.record.stopped = self._watch_adam(loss, size == len(rows))
                optimizer(self.likelihood.parameters.values())
                self.record.keep()
                self._pause(steps, bar, interrupted, optimizer)

    def _watch_adam(self, loss: float, on_all_rows: bool) -> bool:
        """Take note of the state before a step, where its value is known; say whether to stop."""
        step = len(self.record.losses)
        if self.validation is not None:
            return step % LOOK_EVERY == 0 and self._ran_out(loss)
        if on_all_rows:
            return self._ran_out(loss)
        if self.patience.patience == FOREVER or step % Patience.INTERVAL:
            return False
        return self._ran_out(sum(self.record.losses[-Patience.INTERVAL :]) / Patience.INTERVAL)

    def _ran_out(self, loss: float) -> bool:
        watched = loss if self.validation is None else self.likelihood.nll(self.validation)
        return self.patience.ran_out(len(self.record.losses), watched, self.record.copy)

    def _bar(self, steps: int, progress: bool | str) -> Any:
        return tqdm(
            total=steps, initial=len(self.record.losses), disable=not progress, unit="step",
            desc=progress if isinstance(progress, str) else "fit_exact", dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 5.0,
        )  # fmt: skip

    def _pause(
        self,
        steps: int,
        bar: Any,
        interrupted: Callable[[], bool],
        optimizer: FusedOptimizer | None = None,
    ) -> None:
        """Between two steps: the bar, the checkpoint, and Ctrl-C."""
        done = len(self.record.losses)
        bar.update()
        bar.set_postfix_str(f"{self.record.losses[-1]:.4f} nats", refresh=False)
        if done % SAVE_EVERY == 0 or done == steps or self.record.stopped or interrupted():
            self._save(optimizer)
        if interrupted():
            raise KeyboardInterrupt

    def _save(self, optimizer: FusedOptimizer | None = None) -> None:
        groups = {"best": self.patience.best_state}
        if optimizer is not None:
            groups["optimizer"] = optimizer.get_state()
        best = {"best": self.patience.best, "best_step": self.patience.best_step}
        self.record.save(groups, best)


def _batch(rows: Tensor, size: int, step: int, seed: int) -> Tensor:
    """Rows of a step: an epoch is a permutation of its own seed, so any step can be redone."""
    if size >= len(rows):
        return rows
    epoch, position = divmod(step, len(rows) // size)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    order = torch.randperm(len(rows), generator=generator)
    return rows[order[position * size : (position + 1) * size].to(rows.device)]
