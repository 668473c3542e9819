"""How the generator of a cell is fitted beforehand, by the name that a study gives it.

``"svi"`` raises a bound with a helping encoder; the others raise the exact likelihood of a
piecewise-affine generator, with all rows in every step.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pyrolvm.core import serves
from pyrolvm.core.errors import SettingError
from pyrolvm.fit import Fit
from pyrolvm.guides import ExactCPA

ExactLearner = Callable[[Any, Tensor, int, int], Fit]
_warm: set[tuple[str, int]] = set()
"""Learners and latent dimensions whose kernels this process has compiled."""


def _em(update: Literal["safeguarded", "undamped"]) -> ExactLearner:
    def learn(model: Any, x: Tensor, steps: int, seed: int) -> Fit:
        from pyrolvm.fit_em import fit_em

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a run that broke off is told by its losses
            return fit_em(model, x, steps=steps, update=update, seed=seed, progress=False)

    return learn


def _gradient(optimizer: Literal["lbfgs", "adam"]) -> ExactLearner:
    def learn(model: Any, x: Tensor, steps: int, seed: int) -> Fit:
        from pyrolvm.fit_exact import fit_exact

        return fit_exact(model, x, optimizer=optimizer, steps=steps, seed=seed, progress=False)

    return learn


LEARNERS: dict[str, ExactLearner | None] = {
    "svi": None,
    "em": _em("safeguarded"),
    "em-undamped": _em("undamped"),
    "lbfgs": _gradient("lbfgs"),
    "exact-adam": _gradient("adam"),
}
"""Learners ``(model, x, steps, seed) -> Fit`` by name; None needs a helping encoder."""


@dataclass(frozen=True)
class FittedGenerator:
    """What fitting a generator beforehand left.

    Args:
        state: Its parameters.
        losses: Loss of every step, nats per datum; the exact negative log likelihood where
            ``is_exact``.
        is_exact: Whether the learner raised the exact likelihood.
        cpu_seconds: What it cost, without compiling kernels.
    """

    state: dict[str, Tensor]
    losses: Tensor
    is_exact: bool
    cpu_seconds: float

    @classmethod
    def of(cls, result: Fit, is_exact: bool, cpu_seconds: float) -> FittedGenerator:
        """Keep what a fit left, apart from its programs."""
        state = {name: value.clone() for name, value in result.model.state_dict().items()}
        return cls(state, result.losses.detach(), is_exact, cpu_seconds)

    @property
    def rises(self) -> Tensor:
        """How much the loss rose at each step, nats a datum; infinite where it broke off."""
        return self.losses.double().diff().nan_to_num(nan=torch.inf, posinf=torch.inf)


def learn_exactly(learner: str, model: Any, x: Tensor, steps: int, seed: int) -> FittedGenerator:
    """Fit a generator in place by its exact likelihood.

    Args:
        learner: A key of :data:`LEARNERS` other than ``"svi"``.
        model: A piecewise-affine generator.
        x: Rows, shape ``(N, D)``.
        steps: Most steps.
        seed: Of what is random in it.
    """
    learn = LEARNERS[learner]
    assert learn is not None
    if (learner, model.latent_dim) not in _warm:
        learn(copy.deepcopy(model), x[: 2 * model.obs_dim], 1, seed)
        _warm.add((learner, model.latent_dim))
    start = time.process_time()
    result = learn(model, x, steps, seed)
    return FittedGenerator.of(result, True, time.process_time() - start)


def check_learner(learner: str, model: Any, steps: int) -> None:
    """Refuse an exact learner that a generator, or the number of its steps, makes no sense for.

    Args:
        learner: A key of :data:`LEARNERS` other than ``"svi"``.
        model: The generator.
        steps: Those of ``model_steps``.

    Raises:
        SettingError: If the likelihood is not known exactly, or there are no steps.
    """
    if not steps:
        raise SettingError(
            f'model_learner = "{learner}" fits the generator beforehand, but model_steps is 0: '
            "say how many steps."
        )
    if not serves(ExactCPA, model):
        dims = getattr(model, "latent_dim", "?")
        raise SettingError(
            f'model_learner = "{learner}" needs the exact likelihood of a piecewise-affine '
            f"generator with at most {ExactCPA.max_latent_dim} latent dimensions, but "
            f"{getattr(model, '__name__', type(model).__name__)} ({dims} latent dimensions) has "
            'none. Take "svi", or the model cpa-generator.'
        )
