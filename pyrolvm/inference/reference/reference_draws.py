"""Draws of the posterior itself: exact where it is known, by chains that agree elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import Data, HasPosterior, serves
from pyrolvm.core.errors import SettingError, require_at_least, require_seed
from pyrolvm.core.latent_space import Points
from pyrolvm.core.pairing import offers
from pyrolvm.core.randomness import own_randomness
from pyrolvm.guides import ExactCPA
from pyrolvm.inference.held_rows import Space
from pyrolvm.inference.reference.chains import Clock
from pyrolvm.inference.reference.forms import forms_of
from pyrolvm.inference.reference.result import Reference
from pyrolvm.inference.reference.sampling import Limits, sampled
from pyrolvm.inference.rows import (
    Rows,
    densities_at_rows,
    row_index,
    row_numbers,
    space_at_rows,
)

STARTING_DRAWS = 64


def reference_draws(
    model: Callable[..., Any],
    data: Any,
    *,
    rows: Rows = None,
    guide: Callable[..., Any] | None = None,
    num_draws: int = 2000,
    seed: int = 0,
    method: Literal["auto", "exact", "NUTS"] = "auto",
    num_warmup: int = 300,
    max_draws: int = 20_000,
    max_seconds: float = 600.0,
    progress: bool = False,
) -> Reference:
    r"""Draw from the posterior of each chosen datum, to hold a guide against.

    .. math:: u_r \sim p(u \mid x_n), \qquad r = 1, \dots, R

    Models with a known posterior give independent draws. Elsewhere four chains of NUTS go on, in
    blocks, until the rank-normalised R-hat of every coordinate is below 1.01 and its effective
    sample size above 400; where they do not get there, ``is_usable`` is False and ``reason`` says
    why. Where the posterior factorises, one chain moves all chosen data at once. 2,000 draws take
    about 20 seconds for 32 data of two latents, and for a hierarchical model of ten.

    Args:
        model: A Pyro program that observes ``data``.
        data: A tensor, or a mapping from argument name to tensor, rows first.
        rows: Numbers of the data; None takes all. Without effect where a latent site lies outside
            the plate ``"data"``: the data set is one datum then.
        guide: A guide whose draws, moved apart, start half of the chains.
        num_draws: Draws R that are wanted of each datum.
        seed: The same seed gives the same draws, unless the time limit ends them.
        method: ``"auto"`` takes exact draws where there are any.
        num_warmup: Further draws of each chain, in which it learns its step and its scales.
        max_draws: Most draws of all chains together before they are given up.
        max_seconds: Most seconds before they are given up.
        progress: Whether to show a progress bar.

    Returns:
        The draws in unconstrained coordinates, shape ``(R, N, S)``, and whether to believe them.

    Raises:
        SettingError: If exact draws are asked for, and the posterior is not known.
        SiteError: If a latent site is discrete and cannot be summed out.
    """
    require_at_least(8, num_draws=num_draws, num_warmup=num_warmup)
    require_at_least(num_draws, max_draws=max_draws)
    require_seed(seed)
    if method not in ("auto", "exact", "NUTS"):
        raise SettingError(f"method should be 'auto', 'exact' or 'NUTS', but it is {method!r}.")
    limits = Limits(num_draws, num_warmup, max_draws, max_seconds)
    with own_randomness(seed):
        wide = None if guide is None else _guide_values(model, guide, data, rows)
        with space_at_rows(model, data, rows, guide) as space:
            numbers = row_numbers(rows if space.factorises else None, space.num_data)
            posterior = None if method == "NUTS" else known_posterior(model, data, rows)
            if posterior is not None:
                draws = space.to_points({model.latent_sites[0]: posterior((num_draws,))})  # type: ignore[attr-defined]
                return _exact(draws, space, numbers)
            if method == "exact":
                raise SettingError(
                    "method='exact' needs a model whose posterior is known, but that of "
                    f"{getattr(model, '__name__', type(model).__name__)} is not. "
                    "Use method='NUTS'."
                )
            points = None if wide is None else space.to_points(wide)
            with (
                forms_of(model, data, rows, space) as forms,
                tqdm(desc="reference draws", unit="draw", disable=not progress) as bar,
            ):
                clock = Clock(max_seconds, bar.update)
                return sampled(forms, points, numbers, limits, clock)


def known_posterior(model: Any, data: Any, rows: Rows) -> Callable[[Sequence[int]], Tensor] | None:
    """Sampler of the exact posterior of the chosen rows, None where it is not known.

    Args:
        model: A model in double precision.
        data: All rows.
        rows: The chosen ones.
    """
    given = Data.of(data)
    x = given.only if rows is None else given.rows(row_index(rows, given.num_rows)).only
    if x is None:
        return None
    if offers(model, HasPosterior):
        posterior = model.posterior(x.double())
    elif serves(ExactCPA, model):
        posterior = ExactCPA(model).posterior(x.double())
    else:
        return None
    return lambda shape: posterior.sample(torch.Size(shape))


def _exact(draws: Points, space: Space, rows: tuple[int, ...]) -> Reference:
    ones = draws.new_ones(draws.shape[1:])
    return Reference(
        draws=draws,
        method="exact",
        names=space.names,
        rows=rows,
        rhat=ones,
        ess=len(draws) * ones,
        num_made=len(draws),
    )


def _guide_values(model: Any, guide: Any, data: Any, rows: Rows) -> dict[str, Tensor]:
    found = densities_at_rows(model, guide, data, rows, STARTING_DRAWS)
    return dict(found.values)
