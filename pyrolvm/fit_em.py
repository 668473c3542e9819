"""Train a piecewise-affine generator by expectation-maximisation with its exact posterior.

Nothing is sampled and no guide is learned: the E-step is the exact posterior of all data, and each
update of a block of parameters is accepted only if the exact likelihood rises.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import AssignableStack, Data, DataError, IncompatiblePairError
from pyrolvm.core.checkpoint import tensor_digest
from pyrolvm.core.errors import (
    SettingError,
    UnknownNameError,
    require_at_least,
    require_seed,
)
from pyrolvm.core.pairing import offers
from pyrolvm.exact import AffineStack
from pyrolvm.exact.folding import to_numpy
from pyrolvm.exact.learning.exact_em import ExactEM, Update
from pyrolvm.exact.learning.learning_parts import LearningParts
from pyrolvm.exact.partition import DEFAULT_MAX_REGIONS
from pyrolvm.fit import Fit
from pyrolvm.guides import ExactCPA
from pyrolvm.inference.learning_record import LearningRecord
from pyrolvm.objectives.interruption import held_interrupt

UPDATES = ("safeguarded", "undamped")
SAVE_EVERY = 10


def fit_em(
    model: Any,
    x: Any,
    *,
    steps: int = 100,
    update: Update = "safeguarded",
    ridge: float = 1e-6,
    noise_floor: float = 1e-4,
    tolerance: float = 1e-6,
    seed: int = 0,
    max_regions: int = DEFAULT_MAX_REGIONS,
    checkpoint: str | Path | None = None,
    progress: bool | str = True,
) -> Fit:
    r"""Maximise the exact likelihood of a piecewise-affine generator by safeguarded EM.

    A sweep updates each hidden layer, then the last layer with the noise, then the prior. What
    learns is what carries a gradient in ``model.affine_stack``. Last layer, noise and prior have
    closed-form M-steps; what a fixed Gaussian prior would gain goes into the first layer, which
    spares EM its slowness at small noise. A hidden layer's closed form freezes the activation
    codes on the old regions; since the regions move with the layer, it is only a direction of
    ascent, and the steps 1, 0.3, 0.09, ... along it are tried until the exact negative log
    likelihood falls.

    All is computed in double precision, on the processor; the model holds the result in its own
    type, and every loss is that of the model as it is, rounding included. ``model.double()`` goes
    on where single precision can tell no more improvement.

    Args:
        model: A model with an ``affine_stack`` and ``assign_stack``, for example ``CPAGenerator``,
            ``LinearGaussian``, or a Gaussian ``VAE`` with a ReLU decoder.
        x: Observations, a tensor ``(N, obs_dim)`` or a mapping with this one tensor.
        steps: Most sweeps.
        update: ``"safeguarded"``, or ``"undamped"``: every hidden layer goes at once where it is
            best on the old regions. This can destroy the likelihood, because those regions are
            gone after it, and in most runs the loss rises somewhere. It stops with a warning, and
            with the last finite state, where the likelihood is not finite any more.
        ridge: Ridge of the hidden layers, as a share of the mean curvature. It holds directions
            that the data do not determine where they are (undamped: draws them to zero).
        noise_floor: Smallest variance of the noise, as a share of the mean variance of the data;
            the likelihood of a flexible generator has no upper bound without one (Mattei &
            Frellsen 2018). A model's own floor holds as well, and noise that starts below does not
            rise.
        tolerance: Stop after a sweep that lowers the loss by no more, in nats per datum.
        seed: For the record: nothing is drawn.
        max_regions: Most affine regions allowed, for each component of the prior.
        checkpoint: File from which a killed run goes on, and to which it writes.
        progress: Whether to show a progress bar; a text names it.

    Returns:
        The model, ``ExactCPA`` as its guide, and the exact negative log likelihood at the start
        and after every sweep, in nats per datum; with ``"safeguarded"`` it never rises.

    Raises:
        IncompatiblePairError: If the model is not such a generator, or has more latent dimensions
            than the engine serves.
        DataError: If the data are empty, not finite, of another shape, or do not vary although the
            noise learns.
        SettingError: If nothing learns, or a setting makes no sense.
        CheckpointError: If the checkpoint cannot be read or belongs to another fit.
        RegionLimitError: If the model has more regions than allowed at the start.

    References:
        Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
        Expectation-Maximization for Deep Generative Networks. The safeguard is ours.

    Example:
        >>> from pyrolvm import datasets, models
        >>> model = models.CPAGenerator(1, 2, (8,), learn_noise=True)
        >>> x = datasets.load("wave").train
        >>> losses = fit_em(model, x, steps=3, progress=False).losses
        >>> bool((losses.diff() <= 0).all())
        True
    """
    require_seed(seed)
    require_at_least(0, steps=steps)
    _check_settings(update, ridge=ridge, noise_floor=noise_floor)
    if not offers(model, AssignableStack):
        raise IncompatiblePairError(
            "fit_em needs a piecewise-affine generator with Gaussian noise whose layers can be "
            f"set (the capability AssignableStack), which {type(model).__name__} does not offer "
            "as it was made. Use ReLU, leaky ReLU or absolute values and Gaussian noise, or train "
            "it with lvm.fit and a guide."
        )
    guide = ExactCPA(model)
    rows = observations_of(model, x)
    values = to_numpy(next(tensor for _, tensor in rows.items()))
    variance = float(values.var(0).mean())
    learning = LearningParts.of(AffineStack.of(model.affine_stack))
    _check_learning(model, learning, variance)
    facts = {
        "update": update, "ridge": ridge, "noise_floor": noise_floor, "tolerance": tolerance,
        "seed": seed, "max_regions": max_regions, "data": tensor_digest(rows.items()),
        "model": type(model).__qualname__,
    }  # fmt: skip
    record = LearningRecord(model, guide, facts, None if checkpoint is None else Path(checkpoint))
    record.resume()
    keeper = _ModelKeeper(record)
    em = ExactEM(
        keeper.read(), values, learning, update, ridge, noise_floor * variance, max_regions, keeper
    )
    try:
        _sweep(em, record, steps, tolerance, progress)
    finally:
        record.restore()
    if em.failure:
        warnings.warn(
            f"fit_em(update='undamped') stopped in sweep {len(record.losses) - 1}: {em.failure} "
            "The model holds the last finite state. Use update='safeguarded'.",
            stacklevel=2,
        )
    losses = torch.tensor(record.losses, dtype=torch.float64)
    return Fit(model, guide, losses, record.seconds, seed, len(losses) <= steps)


def observations_of(model: Any, x: Any) -> Data:
    """Check data for a model of one observed tensor.

    Args:
        model: The model.
        x: A tensor, an array, or a mapping with one of these.

    Returns:
        The data; ``only`` is the tensor ``(N, obs_dim)``.

    Raises:
        DataError: If they are empty, not finite, or of another shape.
    """
    rows = Data.of(x)
    rows.check_finite()
    given = rows.only
    if given is None or given.dim() != 2 or given.shape[1] != model.obs_dim:
        shapes = {name: tuple(tensor.shape) for name, tensor in rows.items()}
        raise DataError(
            f"{type(model).__name__} needs one tensor of observations of shape "
            f"(N, {model.obs_dim}), but got {shapes}. Put one observation in a row."
        )
    return rows


def _check_settings(update: str, **shares: float) -> None:
    if update not in UPDATES:
        raise UnknownNameError("update", update, UPDATES)
    for name, value in shares.items():
        if not 0 < value < 1:
            raise SettingError(f"{name} is a share between 0 and 1, but it is {value}.")


def _check_learning(model: Any, learning: LearningParts, variance: float) -> None:
    if not learning.anything:
        raise SettingError(
            f"fit_em has nothing to learn: no layer, noise or prior of {type(model).__name__} "
            "carries a gradient. Call model.requires_grad_(True), or see learn_noise and "
            "learn_prior."
        )
    if learning.noise and not variance > 0:
        raise DataError(
            "fit_em needs data that vary to learn the noise, but all rows are the same: the "
            "likelihood has no upper bound. Give more rows, or fix the noise."
        )


@dataclass
class _ModelKeeper:
    """Puts generators into the model, and reads back what it holds of them."""

    record: LearningRecord

    @torch.no_grad()
    def read(self) -> AffineStack:
        stack = AffineStack.of(self.record.model.affine_stack)

        def copied(tensor: Tensor) -> Tensor:
            return tensor.detach().to("cpu", torch.float64, copy=True).contiguous()

        return AffineStack(
            weights=tuple(map(copied, stack.weights)),
            biases=tuple(map(copied, stack.biases)),
            slopes=stack.slopes,
            noise_scale=copied(stack.noise_scale),
            prior_loc=copied(stack.prior_loc),
            prior_scale_tril=copied(stack.prior_scale_tril),
            prior_logits=None if stack.prior_logits is None else copied(stack.prior_logits),
        )

    def put(self, stack: AffineStack) -> AffineStack:
        self.record.model.assign_stack(stack)
        return self.read()

    def keep(self) -> None:
        self.record.keep()


def _sweep(
    em: ExactEM, record: LearningRecord, steps: int, tolerance: float, progress: bool | str
) -> None:
    """Sweep until nothing improves or there are enough sweeps, with a checkpoint now and then."""
    losses = record.losses
    if not losses:
        losses.append(em.nll)
    bar = tqdm(
        total=steps, initial=len(losses) - 1, disable=not progress, unit="sweep",
        desc=progress if isinstance(progress, str) else "fit_em", dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
    )  # fmt: skip
    with bar, held_interrupt() as interrupted:
        while len(losses) <= steps and not record.stopped:
            losses.append(em.sweep())
            bar.update()
            bar.set_postfix_str(f"{losses[-1]:.4f} nats", refresh=False)
            settled = em.update == "safeguarded" and losses[-2] - losses[-1] <= tolerance
            record.stopped = bool(em.failure) or settled
            done = len(losses) - 1
            if done % SAVE_EVERY == 0 or done == steps or record.stopped or interrupted():
                record.save()
            if interrupted():
                raise KeyboardInterrupt
