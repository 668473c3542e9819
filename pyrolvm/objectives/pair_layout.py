"""Can a pair's particles run at once, and does every site lie in the data plate?

What an objective has to know of a pair before its first step. Finding out leaves no trace: neither
random numbers, nor running statistics, nor parameters are any different afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyrolvm.core import sites
from pyrolvm.core.data import CallArguments
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.matching import run_once
from pyrolvm.core.point_masses import refuse_point_masses
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.tracing import PairTrace
from pyrolvm.core.vectorising import particle_dim
from pyrolvm.objectives.running_statistics import RunningStatistics


class PairLayout:
    """Remembers the layout of the pair that it was last asked about."""

    def __init__(self) -> None:
        self._pair: tuple[Any, Any] | None = None
        self._found: tuple[int | None, tuple[str, ...]] = (None, ())

    def of(
        self, model: Callable[..., Any], guide: Callable[..., Any], given: CallArguments
    ) -> tuple[int | None, tuple[str, ...]]:
        """Return the dimension for a plate of particles, and the sites outside ``"data"``.

        Args:
            model: A Pyro program.
            guide: A Pyro program.
            given: What both take.

        Returns:
            The dimension, None where particles have to run one after another; names of sites.

        Raises:
            SiteError: If the sites of model and guide do not match, or the guide has a point mass
                where a density is wanted.
        """
        if self._pair is None or self._pair[0] is not model or self._pair[1] is not guide:
            self._found = _layout(model, guide, given)
            self._pair = (model, guide)
        return self._found


def _layout(
    model: Callable[..., Any], guide: Callable[..., Any], given: CallArguments
) -> tuple[int | None, tuple[str, ...]]:
    statistics = RunningStatistics(model, guide)
    with torch.no_grad(), own_randomness(), poutine.block():  # SVI looks on: hide trial runs
        alone = run_once(model, guide, given)
        refuse_point_masses(model, guide, given, alone)
        statistics.put_back()
        with evaluating(model, guide):  # densities are compared, which takes double precision
            dim = particle_dim(model, guide, _in_double(given), alone)
    _warn_other_plates(alone)
    outside = [name for name, site in alone.all_sites() if sites.data_dim(site) is None]
    return dim, tuple(dict.fromkeys(outside))


def _warn_other_plates(alone: PairTrace) -> None:
    """Say that all rows share their weights, where a plate around them has another name."""
    plates = {frame.name for _, site in alone.all_sites() for frame in site["cond_indep_stack"]}
    if plates and sites.DATA_PLATE not in plates:
        warnings.warn(
            f"No plate of this model and guide is called {sites.DATA_PLATE!r}, but "
            f"{', '.join(map(repr, sorted(plates)))}: a draw is weighed by all rows together, as "
            "if they were one datum, which works for few of them only. Call the plate over "
            f"independent rows {sites.DATA_PLATE!r}.",
            stacklevel=2,
        )


def _in_double(given: CallArguments) -> CallArguments:
    def double(value: Any) -> Any:
        floats = isinstance(value, Tensor) and value.is_floating_point()
        return value.double() if floats else value

    named = {name: double(value) for name, value in given.named.items()}
    return CallArguments(tuple(map(double, given.args)), named)
