r"""Runs of annealing: forwards from the start of a path, and back from the posterior.

.. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \, r(u_{t-1})

Forwards, u_0 is drawn from the start and u_t comes from u_{t-1} by a move that leaves the density
at β_t invariant. Backwards, u_{T-1} is an exact draw of the posterior and u_{t-1} comes from u_t
by the same move, which is reversible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import Data, Model, log_densities
from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.core.latent_space import Points, latent_space
from pyrolvm.core.log_densities import CHUNK_ELEMENTS
from pyrolvm.inference.annealing.moves import move
from pyrolvm.inference.annealing.path import (
    AnnealingPath,
    GaussianPath,
    PerChain,
    PriorPath,
    chain_elements,
    evaluate,
    gaussian_of,
)
from pyrolvm.inference.annealing.schedule import Schedule

GUIDE_DRAWS = 1000


@dataclass(frozen=True)
class AnnealingSettings:
    """How long annealing takes.

    Args:
        num_temperatures: Changes of temperature T between the start and the posterior.
        num_chains: Independent chains K for each datum.
        num_leapfrog: Leapfrog steps of the move at each temperature.
        start: ``"prior"``, or ``"guide"``: a Gaussian fitted to draws of a guide.
    """

    num_temperatures: int = 500
    num_chains: int = 16
    num_leapfrog: int = 2
    start: Literal["prior", "guide"] = "prior"

    def __post_init__(self) -> None:
        require_at_least(1, num_temperatures=self.num_temperatures, num_leapfrog=self.num_leapfrog)
        require_at_least(2, num_chains=self.num_chains)
        if self.start not in ("prior", "guide"):
            raise SettingError(f"start should be 'prior' or 'guide', but it is {self.start!r}.")

    @property
    def method(self) -> str:
        """What is reported: the method and its sizes."""
        return f"ais: {self.num_temperatures} temperatures, {self.num_chains} chains"


def _nothing() -> None:
    """Show no progress."""


def cool(
    path: AnnealingPath,
    schedule: Schedule,
    settings: AnnealingSettings,
    tick: Callable[[], Any] = _nothing,
) -> tuple[PerChain, Tensor]:
    """Forward annealing: log weights, shape ``(K, N)``, and mean acceptance, shape ``(N,)``."""
    total = settings.num_temperatures
    state = evaluate(path, path.draw(settings.num_chains))
    stages = [schedule.at(step / total) for step in range(total + 1)]
    log_weights, acceptance = torch.zeros_like(state.base), torch.zeros_like(stages[0].beta)
    for before, stage in pairwise(stages):
        log_weights = log_weights + (stage.beta - before.beta) * state.rest
        tick()
        if stage is not stages[-1]:  # a move at the posterior would change no weight
            state, accepted = move(path, state, stage, settings.num_leapfrog)
            acceptance = acceptance + accepted.mean(0) / max(1, total - 1)
    return log_weights, acceptance


def heat(
    path: AnnealingPath,
    schedule: Schedule,
    settings: AnnealingSettings,
    exact: Points,
    tick: Callable[[], Any] = _nothing,
) -> PerChain:
    """Reverse annealing from posterior draws to the start: log weights, shape ``(K, N)``.

    Args:
        path: The annealed densities.
        schedule: That of the forward run.
        settings: Those of the forward run.
        exact: One exact draw of each posterior, shape ``(1, N, S)``; all chains leave from it.
        tick: Called once for each temperature.
    """
    total = settings.num_temperatures
    state = evaluate(path, exact.expand(settings.num_chains, -1, -1).contiguous())
    stages = [schedule.at(step / total) for step in range(total + 1)]
    log_weights = torch.zeros_like(state.base)
    for stage, before in pairwise(reversed(stages)):
        log_weights = log_weights + (stage.beta - before.beta) * state.rest
        tick()
        if before is not stages[0]:
            state, _ = move(path, state, before, settings.num_leapfrog)
    return log_weights


@contextmanager
def annealing_path(
    model: Callable[..., Any],
    rows: Data,
    settings: AnnealingSettings,
    guide: Callable[..., Any] | None,
) -> Iterator[AnnealingPath]:
    """Open the path that settings ask for; inside, the model runs in double precision."""
    with latent_space(model, rows, guide) as space:
        if settings.start == "prior":
            yield PriorPath(space)
        elif guide is None:
            raise SettingError(
                "Annealing from a guide's Gaussian (start='guide') needs the guide: pass guide=."
            )
        else:
            terms = log_densities(model, guide, rows, num_particles=GUIDE_DRAWS, keep_values=True)
            yield GaussianPath(space, gaussian_of(space.to_points(terms.values)))


def row_slices(model: Any, rows: Data, num_chains: int) -> list[slice]:
    """Parts of the rows that are annealed together: all, unless any part of them will do."""
    if not isinstance(model, Model):
        return [slice(0, rows.num_rows)]
    with latent_space(model, rows.rows(slice(0, 1))) as space:
        size = max(1, CHUNK_ELEMENTS // (num_chains * chain_elements(space)))
        if not space.factorises:
            size = rows.num_rows
    return [slice(i, min(i + size, rows.num_rows)) for i in range(0, rows.num_rows, size)]


def progress_bar(total: int, rows: Data, progress: bool) -> Any:
    """Bar that counts temperatures."""
    words = f"anneal {rows.num_rows} rows"
    return tqdm(total=total, desc=words, unit="temperature", disable=not progress)
