"""Train one pair from several starts, and rank what comes out by the ELBO.

The objective of a deep latent variable model has poor local optima: how runs agree says something
about identifiability only among runs that found good ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Data, NonFiniteLossError, SiteError, log_densities
from pyrolvm.core.errors import SettingError, require_at_least, require_seed
from pyrolvm.core.randomness import own_randomness
from pyrolvm.fit import Fit, beside_model, fit

OWN = {"seed": "seeds", "checkpoint": "folder"}
"""Arguments of ``fit`` that differ between starts, and what gives them."""


@dataclass(frozen=True)
class Restarts:
    """Fits of one pair from several starts, best first.

    Args:
        fits: One a start, in the order of falling ELBO.
        elbos: ELBO of each in nats per datum, shape ``(R,)``, falling.
        seconds: Wall time of all.
    """

    fits: tuple[Fit, ...]
    elbos: Tensor
    seconds: float

    @property
    def best(self) -> Fit:
        """The fit of the largest ELBO."""
        return self.fits[0]

    def top(self, number: int) -> tuple[Fit, ...]:
        """Return the fits of the largest ELBOs.

        Raises:
            SettingError: If there are not so many, or fewer than one is asked for.
        """
        if not 1 <= number <= len(self.fits):
            raise SettingError(
                f"There are {len(self.fits)} fits, so that the top 1 to {len(self.fits)} can be "
                f"asked for, but not {number}."
            )
        return self.fits[:number]


def fit_restarts(
    make: Callable[[int], tuple[Any, Any]],
    data: Any,
    *,
    seeds: Sequence[int] = range(5),
    validation: Any = None,
    num_particles: int = 100,
    folder: str | Path | None = None,
    **fit_options: Any,
) -> Restarts:
    """Train a pair from several starts and rank the results by their ELBO.

    Args:
        make: Builds a new model and a guide for it from a seed; torch's random numbers are seeded
            with it.
        data: As in :func:`pyrolvm.fit`.
        seeds: One for each start: of weights, minibatches and particles.
        validation: Data of the same form on which the ELBO is measured; the training data where it
            is None.
        num_particles: Draws of the guide for each datum behind an ELBO.
        folder: Where each start keeps its checkpoint, from which a killed run goes on.
        **fit_options: What :func:`pyrolvm.fit` takes besides: ``steps``, ``warm_start``, …

    Returns:
        The fits, best first.

    Warns:
        UserWarning: For a start whose training fails; it is left out.

    Raises:
        NonFiniteLossError: If all starts fail.
        SettingError: If there is no seed, one comes twice, or ``seed`` or ``checkpoint`` is given,
            which each start has of its own.
        TypeError: If :func:`pyrolvm.fit` does not take an option.

    >>> from pyrolvm import guides, models
    >>> def make(seed):
    ...     model = models.VAE(latent_dim=1, obs_dim=3)
    ...     return model, guides.Amortized(model)
    >>> x = models.VAE(latent_dim=1, obs_dim=3)(size=20).detach()
    >>> fit_restarts(make, x, seeds=range(2), steps=5, progress=False).elbos.shape
    torch.Size([2])
    """
    chosen = list(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise SettingError(f"seeds should be different whole numbers, but they are {chosen}.")
    require_at_least(1, num_particles=num_particles)
    for name, instead in OWN.items():
        if name in fit_options:
            raise SettingError(
                f"Every start has a {name} of its own, so that fit_restarts takes no {name}=. "
                f"Pass {instead}=."
            )
    scored = Data.of(data if validation is None else validation)
    found: list[tuple[float, Fit]] = []
    for seed in chosen:
        require_seed(seed)
        with own_randomness(seed):
            model, guide = make(seed)
        path = None if folder is None else Path(folder) / f"restart-{seed}.safetensors"
        try:
            run = fit(model, guide, data, seed=seed, checkpoint=path, **fit_options)
            found.append((_elbo(run, scored, num_particles), run))
        except (NonFiniteLossError, SiteError) as error:
            if seed == chosen[-1] and not found:
                raise
            warnings.warn(f"The start with seed {seed} is left out. {error}", stacklevel=2)
    found.sort(key=lambda pair: pair[0], reverse=True)
    return Restarts(
        tuple(run for _, run in found),
        torch.tensor([elbo for elbo, _ in found], dtype=torch.float64),
        sum(run.seconds for _, run in found),
    )


def _elbo(run: Fit, scored: Data, num_particles: int) -> float:
    """ELBO in nats per datum, by the same random numbers for all starts."""
    with own_randomness(0):
        rows = beside_model(run.model, scored, None)
        terms = log_densities(run.model, run.guide, rows, num_particles=num_particles)
    return _per_datum(terms.log_weights, scored.num_rows, terms.factorises)


def _per_datum(
    log_weights: Float[Tensor, "particle data"], num_rows: int, factorises: bool
) -> float:
    mean = log_weights.mean().item()
    return mean if factorises else mean / num_rows
