"""From factories, seeds and a grid to a stack of members that is ready to be trained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import Data, own_parameters
from pyrolvm.core.errors import SettingError, require_seed
from pyrolvm.core.matching import run_once
from pyrolvm.core.programs import require_pair
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.tracing import free_dim
from pyrolvm.objectives.compiled.choice import Compile
from pyrolvm.objectives.compiled.ensemble import compiled_loop
from pyrolvm.objectives.compiled.ensemble_loop import CompiledLoop
from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.ensemble_batches import MemberBatches
from pyrolvm.objectives.ensemble_check import own_step, require_same_step
from pyrolvm.objectives.ensemble_loop import EnsembleLoop, Schedule
from pyrolvm.objectives.ensemble_loss import EnsembleLoss, require_reparameterised
from pyrolvm.objectives.ensemble_members import PairTensors, require_in_modules, stacked
from pyrolvm.objectives.ensemble_program import BatchedStep
from pyrolvm.objectives.ensemble_weights import (
    MemberWeights,
    analytic_and_particles,
    member_weights,
)
from pyrolvm.objectives.layerwise_elbo import WarmUp
from pyrolvm.objectives.training import Train, frozen_program
from pyrolvm.objectives.traps import refuse_traps

WEIGHTS = "rate_weights"
"""The setting of a grid that weighs the rates in the loss."""
COMPILED = "the whole step of all members is compiled"


@dataclass
class Member:
    """A pair of an ensemble, on its way.

    Args:
        model: Its model.
        guide: Its guide.
        seed: Of its initial weights, its minibatches and its particles.
        point: Its settings in the grid.
        rows: Its data.
        losses: Nats per datum, NaN from where it diverged, shape ``(steps,)``.
        stopped_at: Step at which it diverged, or None.
    """

    model: Any
    guide: Any
    seed: int
    point: dict[str, Any]
    rows: Data
    losses: Tensor = field(default_factory=lambda: torch.empty(0))
    stopped_at: int | None = None

    @classmethod
    def made(
        cls,
        model_factory: Callable[..., Any],
        guide_factory: Callable[..., Any],
        seed: int,
        point: Mapping[str, Any],
        rows: Data,
    ) -> Member:
        """Make a pair under its seed.

        Args:
            model_factory: Makes a model; gets the settings that it takes.
            guide_factory: Makes a guide for that model; likewise.
            seed: Of the initial weights.
            point: Settings.
            rows: Its data.

        Raises:
            SettingError: If a setting is taken by neither.
        """
        require_seed(seed)
        for_model, for_guide = _taken(model_factory, point), _taken(guide_factory, point)
        for name in point:
            if name not in (WEIGHTS, *for_model, *for_guide):
                raise SettingError(
                    f"The grid has the setting {name!r}, which neither model_factory nor "
                    "guide_factory takes."
                )
        with own_randomness(seed):
            model = model_factory(**for_model)
            guide = guide_factory(model, **for_guide)
        require_pair(model, guide)
        return cls(model, guide, seed, dict(point), rows)


def _taken(factory: Callable[..., Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a point that a factory names, or all but the weights where it takes any."""
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {
        name: value
        for name, value in point.items()
        if name in parameters or (takes_any and name != WEIGHTS)
    }


@dataclass(frozen=True)
class EnsemblePlan:
    """How every group of members is trained.

    Args:
        batch_size: Rows in a minibatch.
        steps: Number of steps.
        learning_rate: Step size of Adam at the start.
        decay: Whether the step size falls along half a cosine.
        num_particles: Draws of the guide where there is no objective.
        warm_up: Schedule of the weights.
        loss: The objective, or None.
        learns: What is trained; see :func:`pyrolvm.fit`.
        compile: Whether the steps are compiled.
    """

    batch_size: int
    steps: int
    learning_rate: float
    decay: bool
    num_particles: int
    warm_up: WarmUp | None
    loss: Any = None
    learns: Train = "both"
    compile: Compile = False

    def train(self, members: Sequence[Member], bar: tqdm) -> str:
        """Train members together, in place.

        Args:
            members: Pairs of equal shape.
            bar: Shows the steps.

        Returns:
            How the steps were taken, in words.

        Raises:
            IncompatiblePairError: If they are not of equal shape, or cannot be run together.
            SettingError: If the objective does not take what is asked of it.
        """
        with ExitStack() as stack:
            for member in members:
                frozen = {"both": None, "guide": member.model, "model": member.guide}[self.learns]
                stack.enter_context(frozen_program(frozen))
            return self._train(members, bar)

    def _train(self, members: Sequence[Member], bar: tqdm) -> str:
        sample = members[0].rows.rows(slice(0, self.batch_size))
        pairs = [self._first_run(member, sample) for member in members]
        batches = MemberBatches.of_members(
            [member.rows for member in members], self.batch_size, [m.seed for m in members]
        )
        stack = stacked(pairs)
        if not stack.learning:
            raise SettingError("fit_ensemble has nothing to train: no parameter has a gradient.")
        weights, loss = self._objective(members, sample, next(iter(stack.learning.values())))
        if self.steps == 0:
            return "no steps"
        loop, how = self._begun(members, stack, batches, weights, loss)
        try:
            loop.go(bar)
        finally:
            history, stopped_at = loop.history(), loop.stopped_at
            for index, (member, pair) in enumerate(zip(members, pairs, strict=True)):
                pair.take(loop.result(index))
                member.losses, member.stopped_at = history[index], stopped_at.get(index)
        return how

    def _first_run(self, member: Member, sample: Data) -> PairTensors:
        """Let guides that set themselves up in their first run do so."""
        model, guide = member.model, member.guide
        with own_parameters(model, guide), own_randomness(member.seed), torch.no_grad():
            pair = run_once(model, guide, sample)
            tensors = PairTensors.of(model, guide)
            require_in_modules(pair, tensors)
        require_reparameterised(pair)
        return tensors

    def _objective(
        self, members: Sequence[Member], sample: Data, like: Tensor
    ) -> tuple[MemberWeights, EnsembleLoss]:
        """The loss of a member, and the weights of all, after checking that they make sense."""
        model, guide = members[0].model, members[0].guide
        with own_parameters(model, guide), own_randomness(), torch.no_grad():
            pair = run_once(model, guide, sample)
            guides = [member.guide for member in members]
            given = [member.point.get(WEIGHTS) for member in members]
            weights = member_weights(
                self.loss, guides, given, self.warm_up, tuple(pair.latents()), like
            )
            analytic, num_particles, standing = analytic_and_particles(
                self.loss, bool(weights.sites), self.num_particles
            )
            refuse_traps(model, guide, standing, pair, sample)
        return weights, EnsembleLoss(weights.sites, analytic, num_particles, free_dim(pair))

    def _begun(
        self,
        members: Sequence[Member],
        stack: PairTensors,
        batches: MemberBatches,
        weights: MemberWeights,
        loss: EnsembleLoss,
    ) -> tuple[EnsembleLoop | CompiledLoop, str]:
        """Capture the batched step, take it once, and compare it with the members' own."""
        batch, now = batches.at(0), weights.at(0)
        generators = [torch.Generator(batch.device).manual_seed(member.seed) for member in members]
        step = BatchedStep(
            loss, members[0].model, members[0].guide, stack, now, batch, batches.shared, generators
        )
        first = step(stack, now, batch)
        for index, member in enumerate(members):
            own_weights = None if now is None else now[index]
            own_batch = batches.of_member(index, 0)
            own = own_step(loss, member.model, member.guide, own_batch, own_weights, member.seed)
            require_same_step(index, own, first, own_batch.num_rows)
        schedule = Schedule(self.steps, self.learning_rate, self.decay, weights.at)
        plain = EnsembleLoop(stack, step, batches, schedule, first)
        if self.compile is False:
            return plain, "batched steps"
        try:
            loop = compiled_loop(self.compile, step.member, stack, batches, schedule, first[0])
        except CaptureError as error:
            return plain, f"batched steps: {error}"
        return loop, COMPILED
