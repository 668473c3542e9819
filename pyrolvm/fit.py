"""Train a model and a guide with plain ``pyro.infer.SVI``.

Around Pyro's own step stand one optimizer for all parameters, seeds, minibatches, checkpoints that
a killed run goes on from, and a stop at the first loss or gradient that is not finite, before it
has changed anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from pyro.infer import ELBO
from torch import Tensor

from pyrolvm.core import Data, FactorisationError, Model, evaluating
from pyrolvm.core.checkpoint import tensor_digest
from pyrolvm.core.errors import require_at_least, require_seed
from pyrolvm.core.guide import keep_the_contract
from pyrolvm.core.matching import run_once
from pyrolvm.core.program_state import parameter_name, state_digest
from pyrolvm.core.programs import require_pair
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.reachable import reachable_modules
from pyrolvm.core.sites import DATA_PLATE, data_dim
from pyrolvm.core.tracing import PairTrace, free_dim
from pyrolvm.core.units import take_units
from pyrolvm.core.vectorising import vectorises
from pyrolvm.objectives import (
    CarriesRateWeights,
    FusedOptimizer,
    LayerwiseELBO,
    LeaveOneOutELBO,
    ParticleObjective,
    Patience,
    RateHistory,
    RunningStatistics,
    SVILoop,
    Train,
    checked_objective,
    draws_discrete,
    refuse_traps,
    training,
    unequal_to_one,
)
from pyrolvm.objectives.compiled import Compile, checked_choice, choice_in_words, svi_for

DEFAULT_BATCH = 128

WarmStart: TypeAlias = Callable[[Any, Any, Data], object]
"""Changes a model and a guide in place, given the data."""
DISCRETE_PARTICLES = 10
"""Fewest draws for each datum and step where latents are discrete and no loss is given."""


@dataclass(frozen=True)
class Fit:
    """What training left.

    Args:
        model: The trained model.
        guide: The trained guide.
        losses: Loss of every step in nats per datum (the negative ELBO, unless another loss was
            given; of ``fit_em`` and ``fit_exact`` the exact negative log likelihood).
        seconds: Wall time, resumed parts included.
        seed: Seed of the minibatches and the particles.
        stopped_early: Whether it ended before all steps were taken: patience ran out, or nothing
            improved any more.
        rate_history: Rate of each layer, distortion and weights of every step, where the loss was
            a :class:`pyrolvm.objectives.LayerwiseELBO`; None elsewhere.
        compilation: Whether the steps were compiled, and why (not), in words.
    """

    model: Any
    guide: Any
    losses: Tensor
    seconds: float
    seed: int
    stopped_early: bool = False
    rate_history: RateHistory | None = None
    compilation: str = "no steps of SVI"

    @property
    def steps(self) -> int:
        """Number of steps that were taken."""
        return len(self.losses)


def fit(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    steps: int = 2000,
    batch_size: int | None = None,
    learning_rate: float = 3e-3,
    decay: bool = True,
    clip_norm: float | None = None,
    num_particles: int = 1,
    loss: ELBO | Callable[..., Tensor] | None = None,
    train: Train = "both",
    warm_start: WarmStart | None = None,
    seed: int = 0,
    patience: int | None = None,
    validation: Any = None,
    watch: Callable[[int], object] | None = None,
    watch_every: int = 100,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 250,
    device: str | torch.device | None = None,
    num_threads: int | None = 1,
    compile: Compile = "auto",
    progress: bool | str = True,
) -> Fit:
    """Train a model and a guide by stochastic variational inference.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: A tensor, or a mapping from argument name to tensor, rows first; for a model of
            PyroLVM it is moved to the device and the floating type of the model. A model that
            works in units of the data (``standardise_by``) and has none yet takes them here.
        steps: Number of optimisation steps.
        batch_size: Rows in a minibatch. Without it, 128 for PyroLVM's amortized pairs, and all
            rows for other programs and for guides with parameters of their own for each datum.
        learning_rate: Step size of Adam at the start.
        decay: Whether the step size falls along half a cosine to 2 % at the last step.
        clip_norm: Largest norm of the gradient.
        num_particles: Draws of the guide for each datum and step, where no loss is given.
        loss: An objective of :mod:`pyrolvm.objectives` or of Pyro, or ``loss(model, guide,
            *args)``, summed over data. Where it is None: the negative ELBO (``Trace_ELBO``;
            for discrete latents :class:`pyrolvm.objectives.LeaveOneOutELBO` with at least 10
            draws), and for a guide that carries ``rate_weights`` other than 1 the
            :class:`pyrolvm.objectives.LayerwiseELBO` of these; a guide with ``rate_weights`` takes
            over those of a LayerwiseELBO that trained it.
        train: What learns: ``"both"``, ``"guide"`` (the model is frozen) or ``"model"``.
        warm_start: Called once with model, guide and data before the first step, to bring the pair
            near a good start (:class:`pyrolvm.AnchoredWarmStart` is one). It has random numbers of
            its own: those of the steps are the same with and without. A fit that goes on from a
            checkpoint does not repeat it.
        seed: The same seed gives the same result, bit for bit, on one machine (for plain or for
            compiled steps).
        patience: Stop after so many steps in which the loss (over ``validation`` if that is given,
            else the mean training loss of the last 100 steps) has not fallen. It is looked at
            every 100 steps and at the end, and the best state of these is what training leaves,
            whether patience ran out or not. Leave it out where weights warm up, for the loss then
            rises by itself.
        validation: Data of the same form for ``patience``.
        watch: Called with the number of steps taken so far: at the start, every ``watch_every``
            steps and at the end (:class:`pyrolvm.KLTrace` is one). It must not change the pair;
            random numbers that it draws do not change training.
        watch_every: Steps between two calls.
        checkpoint: File from which a killed run of the same fit goes on, and to which it writes.
        checkpoint_every: Steps between two checkpoints.
        device: Where to train; model and guide are moved there.
        num_threads: Threads of torch while training; None leaves them as they are. On a machine
            that does other work, a second thread makes the steps of small models 30 times slower;
            large networks on idle cores gain from more.
        compile: Whether the step is captured and compiled
            (:class:`pyrolvm.CompiledSVI`): True, False, or ``"auto"``, where the time that
            compiling saves over all steps exceeds what it takes, and where it was done before.
            Compiled steps draw the same random numbers, and agree with plain ones up to rounding.
        progress: Whether to show a progress bar; a text names it.

    Returns:
        The trained pair with its losses in nats per datum.

    Raises:
        DataError: If the data is empty, or not finite for a model of PyroLVM.
        FactorisationError: If minibatches were asked for where a latent site lies outside the data
            plate.
        SiteError: If a latent site is scaled in the model only, or in the guide only.
        IncompatiblePairError: If the loss weighs layers or takes closed-form KLs, and the guide is
            not drawn from the top down.
        SettingError: If an importance-weighted loss meets weights of rates other than 1.
        NonFiniteLossError: If a loss or gradient is not finite; names the step and the site, and
            keeps the last good state in model, guide and checkpoint.
        CheckpointError: If the checkpoint cannot be read or belongs to another fit.
    """
    require_pair(model, guide)
    require_seed(seed)
    require_at_least(0, steps=steps)
    checked_choice(compile)
    require_at_least(
        1, num_particles=num_particles, checkpoint_every=checkpoint_every, watch_every=watch_every
    )
    rows = _checked(model, data)
    if device is not None:
        for module in reachable_modules(model, guide):
            module.to(device)
    rows = _training_rows(model, rows, device, train)
    watched = None if validation is None else beside_model(model, Data.of(validation), device)
    size = minibatch_size(model, guide, rows, batch_size)
    own_loss: LayerwiseELBO | None = None
    if loss is None and isinstance(guide, CarriesRateWeights) and unequal_to_one(guide):
        loss = own_loss = LayerwiseELBO(guide.rate_weights, num_particles=num_particles)
    path = None if checkpoint is None else Path(checkpoint)
    facts = {
        "steps": steps, "batch_size": size, "learning_rate": learning_rate, "decay": decay,
        "clip_norm": clip_norm, "num_particles": num_particles, "train": train, "seed": seed,
        "loss": None if loss is None else _loss_name(loss), "patience": patience,
        "warm_start": None if warm_start is None else _start_name(warm_start),
        "validation": watched and tensor_digest(watched.items()),
        "data": tensor_digest(rows.items()),
        "model": _name(model), "guide": _name(guide),
    }  # fmt: skip
    if path is not None and train != "both":
        frozen = {"guide": model, "model": guide}.get(train)
        facts["weights of the frozen program"] = state_digest(frozen)
    optimizer = FusedOptimizer(
        learning_rate,
        steps if decay else None,
        clip_norm=clip_norm,
        name_of=functools.partial(_learning_name, model, guide, train),
    )
    with training(model, guide, train, seed, num_threads) as (trained_model, trained_guide):
        batch = rows.rows(slice(0, size))
        first = _first_run(trained_model, trained_guide, batch)
        if loss is None and draws_discrete(first):
            loss = LeaveOneOutELBO(max(num_particles, DISCRETE_PARTICLES))
        refuse_traps(trained_model, trained_guide, loss, first, batch)
        nesting = -free_dim(first) - 1
        many = num_particles > 1 and _vectorises(model, guide, batch, nesting)
        if own_loss is not None:
            own_loss.vectorize_particles = many
        objective = checked_objective(loss, num_particles, nesting, many)
        svi = svi_for(compile, trained_model, trained_guide, optimizer, objective, steps)
        monitor = None if patience is None else Patience(patience)
        memory = loss if isinstance(loss, LayerwiseELBO) else None
        if memory is not None:
            memory.start_anew()
        run = SVILoop(
            model, guide, svi, optimizer, rows, size, seed, facts, path, monitor, watched,
            watch, watch_every, memory,
        )  # fmt: skip
        if path is not None and path.exists():
            run.resume()
        elif warm_start is not None:
            _warm(warm_start, run)
        run.go(steps, checkpoint_every, progress)
    history = None
    if memory is not None:
        memory.warn_unreached()
        history = memory.history
        if own_loss is None:
            _hand_over(memory, guide, len(run.losses))
    return Fit(
        model, guide, torch.tensor(run.losses), run.seconds, seed,
        stopped_early=len(run.losses) < steps, rate_history=history,
        compilation=choice_in_words(compile, svi),
    )  # fmt: skip


def _checked(model: Any, data: Any) -> Data:
    rows = Data.of(data)
    if isinstance(model, Model):
        model.check_data(rows)  # values are looked at in the first step only
    return rows


def beside_model(model: Any, rows: Data, device: str | torch.device | None) -> Data:
    """Put data where training takes place; a model of PyroLVM gets them in its own type."""
    if isinstance(model, Model):
        return rows.to(model.device, model.dtype)
    return rows if device is None else rows.to(device)


def _training_rows(
    model: Any, rows: Data, device: str | torch.device | None, train: Train
) -> Data:
    """Put data where training takes place; a model that learns takes its units from them."""
    rows = beside_model(model, rows, device)
    if train != "guide":
        take_units(model, rows)
    return rows


def minibatch_size(model: Any, guide: Any, rows: Data, asked: int | None) -> int:
    """Return the number of rows in a minibatch of a pair.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        rows: The data.
        asked: What the user asks for; None for the pair's default.

    Raises:
        SettingError: If it is below 1.
        FactorisationError: If a latent site lies outside the data plate.
    """
    if asked is not None:
        require_at_least(1, batch_size=asked)
    own = keep_the_contract(model, guide)
    if asked is None:
        asked = DEFAULT_BATCH if own and not guide.per_datum else rows.num_rows
    size = min(asked, rows.num_rows)
    if size < rows.num_rows and not own:
        with evaluating(model, guide), own_randomness():
            pair = run_once(model, guide, rows.rows(slice(0, size)).to(dtype=torch.float64))
        outside = [name for name, site in pair.latents().items() if data_dim(site) is None]
        if outside:
            raise FactorisationError(
                f"Minibatches need every latent site inside the plate {DATA_PLATE!r}, but "
                f"{', '.join(map(repr, outside))} lies outside. Leave batch_size out to train on "
                "all rows, or subsample inside the model's own plate."
            )
    return size


def _first_run(model: Any, guide: Any, batch: Data) -> PairTrace:
    """Run a pair once, and leave the random numbers as they were.

    Pyro would find out the depth of its plates in the first step, whose random numbers a resumed
    fit must not draw again.
    """
    statistics = RunningStatistics(model, guide)
    with torch.no_grad(), own_randomness():
        pair = run_once(model, guide, batch)
    statistics.put_back()
    return pair


def _vectorises(model: Any, guide: Any, batch: Data, nesting: int) -> bool:
    """Whether all particles of a step can run at once."""
    if keep_the_contract(model, guide):
        return True
    with evaluating(model, guide), own_randomness():
        return vectorises(model, guide, batch.to(dtype=torch.float64), -1 - nesting)


def _learning_name(model: Any, guide: Any, train: Train, parameter: Tensor) -> str | None:
    """Name of a parameter that learns, None for one of a frozen module.

    Pyro sets a parameter that stands directly in a PyroModule to learn when it registers it.
    """
    name = parameter_name(model, guide, parameter)
    frozen = {"both": "-", "guide": "model.", "model": "guide."}[train]
    return None if name.startswith(frozen) else name


def _loss_name(loss: Any) -> str:
    return repr(loss) if isinstance(loss, LayerwiseELBO | ParticleObjective) else _name(loss)


def _hand_over(memory: LayerwiseELBO, guide: Any, steps: int) -> None:
    """Let a guide that carries weights of rates keep those that trained it."""
    if isinstance(guide, CarriesRateWeights):
        ones = dict.fromkeys(guide.rate_weights, 1.0)
        guide.rate_weights = {**ones, **memory.weights_at(steps)}


def _warm(warm_start: WarmStart, run: SVILoop) -> None:
    """Bring the pair near a good start, and keep that: a resumed fit does not repeat it."""
    with own_randomness(run.seed):
        warm_start(run.model, run.guide, run.rows)
    run.save()


def _start_name(warm_start: WarmStart) -> str:
    return repr(warm_start) if is_dataclass(warm_start) else _name(warm_start)


def _name(program: Any) -> str:
    return getattr(program, "__qualname__", type(program).__qualname__)
