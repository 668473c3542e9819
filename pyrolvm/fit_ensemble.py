r"""Train many pairs of equal shape together, as one batched program.

.. math:: \min \sum_m \mathcal L_{\beta_m}(\theta_m, \phi_m)

The parameters of the members are stacked, one Pyro step is mapped over them, and one Adam updates
the stack. Each member keeps its own random numbers and order of rows: it is trained as
:func:`pyrolvm.fit` trains it alone with its seed, up to rounding.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from pyrolvm.core import Data, Model
from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.core.reachable import reachable_modules
from pyrolvm.core.threads import limited_threads
from pyrolvm.core.units import take_units
from pyrolvm.fit import beside_model, minibatch_size
from pyrolvm.objectives.compiled import Compile, checked_choice
from pyrolvm.objectives.ensemble_loop import progress_bar
from pyrolvm.objectives.ensemble_plan import COMPILED, WEIGHTS, EnsemblePlan, Member
from pyrolvm.objectives.layerwise_elbo import WarmUp
from pyrolvm.objectives.rate_weights import number
from pyrolvm.objectives.training import Train


@dataclass(frozen=True)
class EnsembleMember:
    """One trained pair of an ensemble.

    Args:
        model: The trained model.
        guide: The trained guide.
        losses: Loss of every step in nats per datum, up to the last one that was finite.
        seed: Seed of its initial weights, its minibatches and its particles.
        point: Its settings in the grid.
        diverged: Whether a loss or a gradient was not finite; model and guide then hold the state
            before that step.
    """

    model: Any
    guide: Any
    losses: Tensor
    seed: int
    point: Mapping[str, Any]
    diverged: bool = False

    @property
    def steps(self) -> int:
        """Number of steps that were taken."""
        return len(self.losses)


@dataclass(frozen=True)
class EnsembleFit:
    """What training of an ensemble left.

    Args:
        members: The pairs, in the order of the grid, all seeds of a point together.
        losses: Nats per datum, shape ``(members, steps)``; NaN from where a member diverged.
        seconds: Wall time.
        compilation: Whether the steps were compiled, and why (not), in words.
    """

    members: tuple[EnsembleMember, ...]
    losses: Tensor
    seconds: float
    compilation: str = "batched steps"

    @property
    def frame(self) -> pd.DataFrame:
        """One row a member: seed, settings, mean loss of its last 100 steps, steps, diverged."""
        return pd.DataFrame([_row(member) for member in self.members])


def fit_ensemble(
    model_factory: Callable[..., Any],
    guide_factory: Callable[..., Any],
    data: Any,
    *,
    seeds: Sequence[int] = (0,),
    grid: Sequence[Mapping[str, Any]] = ({},),
    steps: int = 2000,
    batch_size: int | None = None,
    learning_rate: float = 3e-3,
    decay: bool = True,
    num_particles: int = 1,
    warm_up: WarmUp | None = None,
    loss: Any = None,
    train: Train = "both",
    chunk: int | None = None,
    device: str | torch.device | None = None,
    num_threads: int | None = 1,
    compile: Compile = "auto",
    progress: bool | str = True,
) -> EnsembleFit:
    """Train one pair for each seed and each point of a grid, all at once.

    Members may differ in the values of their parameters and buffers, in ``rate_weights`` and in
    their seeds; in nothing else. Each member's own program is run once, and has to agree with its
    part of the batched one.

    Args:
        model_factory: Makes a model; gets those settings of a point that it names, or all but
            ``rate_weights`` where it takes any.
        guide_factory: Makes a guide for that model; likewise.
        data: As in :func:`pyrolvm.fit`.
        seeds: Seeds of initial weights, minibatches and particles.
        grid: Settings; ``rate_weights`` (latent site to weight) also weigh the rates in the loss.
        steps: Number of optimisation steps.
        batch_size: Rows in a minibatch; as in :func:`pyrolvm.fit`.
        learning_rate: Step size of Adam at the start.
        decay: Whether the step size falls along half a cosine to 2 % at the last step.
        num_particles: Draws of the guide for each datum and step, where ``loss`` is None.
        warm_up: Maps the number of steps taken to a factor of all weights, or to factors by site.
        loss: None, ``LayerwiseELBO``, or Pyro's ``Trace_ELBO`` or ``TraceMeanField_ELBO``. None is
            the negative ELBO, or ``LayerwiseELBO`` where there are weights or a warm-up.
        train: What learns; as in :func:`pyrolvm.fit`.
        chunk: Most members at once, to bound memory; None for all. It changes no result beyond
            rounding.
        device: Where to train.
        num_threads: Threads of torch while training; None leaves them as they are.
        compile: Whether the step of all members is compiled: True, False, or ``"auto"``, where the
            time that compiling saves over all steps exceeds what it takes, and where it was done
            before. Compiled steps draw the same random numbers, and agree with plain ones up to
            rounding; where they cannot be compiled, plain ones are taken, with a warning if True.
        progress: Whether to show a progress bar; a text names it.

    Returns:
        The trained members. One that diverges stops alone, with a warning.

    Raises:
        SettingError: If a setting makes no sense, or no factory takes it.
        IncompatiblePairError: If members differ in names or shapes of parameters or in what they
            compute, if draws are not reparameterised, or if the program cannot be batched (a
            categorical top layer, for example).
        DataError: If the data does not fit.

    >>> from pyrolvm import guides, models
    >>> data = models.VAE(latent_dim=1, obs_dim=3)(size=50).detach()
    >>> result = fit_ensemble(
    ...     lambda: models.VAE(latent_dim=1, obs_dim=3, hidden=(4,)),
    ...     lambda model: guides.Amortized(model, hidden=(4,)),
    ...     data, seeds=range(3), steps=5, progress=False,
    ... )
    >>> result.losses.shape, [member.seed for member in result.members]
    (torch.Size([3, 5]), [0, 1, 2])
    """
    _check_points(seeds, grid)
    require_at_least(0, steps=steps)
    require_at_least(1, num_particles=num_particles, num_seeds=len(seeds), points=len(grid))
    if chunk is not None:
        require_at_least(1, chunk=chunk)
    checked_choice(compile)
    started = time.perf_counter()
    given = Data.of(data)
    members = [
        Member.made(model_factory, guide_factory, seed, point, given)
        for point in grid for seed in seeds
    ]  # fmt: skip
    size = _prepared(members, given, batch_size, device, train)
    plan = EnsemblePlan(
        size, steps, learning_rate, decay, num_particles, warm_up, loss, train, compile
    )  # fmt: skip
    at_once = chunk or len(members)
    groups = [members[start : start + at_once] for start in range(0, len(members), at_once)]
    with limited_threads(num_threads), progress_bar(steps * len(groups), progress) as bar:
        how = [plan.train(group, bar) for group in groups]
    plain = [each for each in how if each != COMPILED]
    if compile is True and steps and plain:
        warnings.warn(f"fit_ensemble takes {plain[0]}.", stacklevel=2)
    losses = torch.stack([member.losses for member in members])
    done = tuple(_finished(member) for member in members)
    _warn_diverged(done)
    return EnsembleFit(done, losses, time.perf_counter() - started, how[0])


def _check_points(seeds: Any, grid: Any) -> None:
    if isinstance(seeds, int):
        raise SettingError(f"seeds are a list, for example range({seeds}), but they are {seeds}.")
    if isinstance(grid, Mapping) or not all(isinstance(point, Mapping) for point in grid):
        raise SettingError(
            "A grid is a list of points, each a mapping of settings, for example "
            "[{'rate_weights': {'z_1': 0.3}}, {'rate_weights': {'z_1': 3.0}}]."
        )


def _prepared(
    members: Sequence[Member],
    data: Data,
    asked: int | None,
    device: str | torch.device | None,
    train: Train,
) -> int:
    """Put members and data where training takes place; returns the rows in a minibatch."""
    model, guide = members[0].model, members[0].guide
    if isinstance(model, Model):
        data.check_finite()
    if device is not None:
        for module in reachable_modules(*[(member.model, member.guide) for member in members]):
            module.to(device)
    rows = beside_model(model, data, device)
    for member in members:
        member.rows = rows
        if train != "guide":
            take_units(member.model, rows)
    return minibatch_size(model, guide, rows, asked)


def _finished(member: Member) -> EnsembleMember:
    losses = member.losses[: member.stopped_at]
    diverged = member.stopped_at is not None
    return EnsembleMember(member.model, member.guide, losses, member.seed, member.point, diverged)


def _warn_diverged(members: Sequence[EnsembleMember]) -> None:
    diverged = [str(number) for number, member in enumerate(members) if member.diverged]
    if diverged:
        warnings.warn(
            f"{len(diverged)} of {len(members)} members met a loss or a gradient that is not "
            f"finite, and hold their last good state: {', '.join(diverged)}. Try a smaller "
            "learning_rate for them, or a longer warm_up.",
            stacklevel=3,
        )


def _row(member: EnsembleMember) -> dict[str, Any]:
    row: dict[str, Any] = {"seed": member.seed}
    for name, value in member.point.items():
        if name == WEIGHTS:
            row |= {f"{WEIGHTS}.{site}": number(weight) for site, weight in value.items()}
        else:
            row[name] = value
    mean = member.losses[-100:].mean().item() if member.steps else math.nan
    return row | {"loss": mean, "steps": member.steps, "diverged": member.diverged}
