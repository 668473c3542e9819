r"""A model run at given draws of its latent sites: what it says of each observation, and predicts.

.. math:: \log p(x_i \mid z_k), \qquad \tilde x_k \sim p(\cdot \mid z_k)

The draws may come from a guide, from a Markov chain or from the prior, and the program is any
Pyro model. Discrete sites without a draw are summed out of the densities, and drawn from the model
for predictions. Predictions replace every observation at once: where a site depends on an observed
one through its value, it depends on the new value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyrolvm.core import sites as site_arrays
from pyrolvm.core.data import Data
from pyrolvm.core.errors import SiteError
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.guide import keep_the_contract
from pyrolvm.core.matching import run_once
from pyrolvm.core.summed_out import can_be_summed, is_marked
from pyrolvm.core.tracing import (
    PARTICLE_PLATE,
    Holding,
    PairTrace,
    Unconditioned,
    free_dim,
    subsamples,
)
from pyrolvm.core.vectorising import vectorises
from pyrolvm.inference.replayed_sites import (
    entries,
    is_factor,
    located,
    observed_site,
    plate_names,
    shape_of,
)

CHUNK_ELEMENTS = 2**22
"""Elements of the observed sites that are drawn at once: 32 MiB in double precision."""

Values = Mapping[str, Tensor]


class Replay:
    """A model at given draws; made by :func:`replaying`, for use inside the ``with`` block.

    Args:
        model: A Pyro program in double precision.
        data: What it observes.
        alone: A single run of it, and of what samples its latents.
        particle_dim: Dimension of a particle plate; None runs one draw after another.
    """

    def __init__(
        self, model: Callable[..., Any], data: Data, alone: PairTrace, particle_dim: int | None
    ) -> None:
        self.model, self.data = model, data
        self._alone, self._dim, self._rows = alone, particle_dim, subsamples(alone)
        self.global_sites = alone.outside_data_plate()
        self.latents = {n: located(site, self.factorises) for n, site in alone.latents().items()}
        self.plates = {
            name: plate_names(site, shape_of(site), self.factorises)
            for name, site in alone.latents().items()
        }
        self.observed = {
            name: observed_site(site)
            for name, site in alone.observed().items()
            if not is_factor(site)
        }

    @property
    def factorises(self) -> bool:
        """Whether each datum has a posterior of its own."""
        return not self.global_sites

    def in_trace_layout(self, values: Values) -> dict[str, Tensor]:
        """Bring draws ``(K, N, ...)``, or ``(K, ...)`` of one data set, to the shape of a run."""
        held = {}
        for name, site in self.latents.items():
            value = values[name] if self.factorises else values[name].unsqueeze(1)
            parts = [value] if self._dim is not None else list(value.split(1))
            laid = [site.in_trace(part, site.support_event, self._dim) for part in parts]
            held[name] = laid[0] if self._dim is not None else torch.stack(laid)
        return held

    def from_runs(self, samples: Values) -> dict[str, Tensor]:
        """Bring draws that have the shapes of single runs, draws first, to the layout of a run.

        Raises:
            SiteError: If a site has no draws, or they have another shape than in the model.
        """
        held = {}
        for name, site in self._alone.latents().items():
            shape, came = shape_of(site), samples[name].shape if name in samples else None
            if came is None or tuple(came[1:]) != shape:
                raise SiteError(
                    f"The draws of site {name!r} should have the shape {shape} of the model, but "
                    f"{'there are none' if came is None else f'have {tuple(came[1:])}'}. Pass the "
                    "model and the data that were sampled."
                )
            value = samples[name]
            if self._dim is not None:
                width = len(shape) - site["fn"].event_dim
                value = value.reshape(len(value), *(1,) * (-self._dim - 1 - width), *shape)
            held[name] = value
        return held

    def log_likelihood(self, held: Values) -> dict[str, Tensor]:
        """Log density of each independent piece of the data at each draw, in nats.

        Args:
            held: Draws of the latent sites in the layout of a run, draws first.

        Returns:
            By observed site: ``(K, N)`` inside the plate ``"data"``, one figure a row; elsewhere
            ``(K, ...)`` with the site's own plates. Sites that share a summed-out one have their
            joint density at the first of them.

        Raises:
            SiteError: If discrete sites are summed out and the observations lie in no data plate.
        """
        parts = [self._pointwise(trace) for trace in self._runs(held, conditioned=True)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def replicates(self, held: Values, num_draws: int) -> Iterator[dict[str, Tensor]]:
        """New observations at each draw, some draws at a time.

        Args:
            held: Draws in the layout of a run; what is not held is drawn from the model, so that
                none at all gives prior predictions.
            num_draws: Number of draws K.

        Yields:
            By observed site, ``(k, N, ...)`` inside the plate ``"data"``, else ``(k, ...)``.
        """
        for trace in self._runs(held, conditioned=False, num_draws=num_draws):
            yield self._values(trace, self.observed, rows_first=True)

    def prior(self, num_draws: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Latent sites and observations drawn from the model, as :meth:`values` has them."""
        runs = [
            (
                self._values(trace, self.latents, self.factorises),
                self._values(trace, self.observed, rows_first=True),
            )
            for trace in self._runs({}, conditioned=False, num_draws=num_draws)
        ]
        latents, observed = zip(*runs, strict=True)
        return _stacked(latents), _stacked(observed)

    def values(self, held: Values) -> dict[str, Tensor]:
        """Draws in the layout of a run, with draws (and data) first: ``(K, N, ...)``."""
        parts = [
            self._values(trace, self.latents, self.factorises)
            for trace in self._runs(held, conditioned=True, summing=False)
        ]
        return _stacked(parts)

    def _values(self, trace: Any, names: Collection[str], rows_first: bool) -> dict[str, Tensor]:
        return {
            name: site_arrays.value_of(trace.nodes[name], self._dim, rows_first) for name in names
        }

    def _runs(
        self,
        held: Values,
        *,
        conditioned: bool,
        summing: bool = True,
        num_draws: int | None = None,
    ) -> Iterator[Any]:
        """Traces of the model, a chunk of draws at a time, one draw each where it has no plate."""
        model = self.model if conditioned else Unconditioned()(self.model)
        if conditioned and summing and self._alone.enumeration is not None:
            model = self._alone.enumeration.over(model)
        total = num_draws or len(next(iter(held.values())))
        step = self._chunk() if self._dim is not None else 1
        for start in range(0, total, step):
            size = min(step, total - start)
            part = {
                name: value[start : start + size] if self._dim is not None else value[start]
                for name, value in held.items()
            }
            program = poutine.trace(Holding(part)(poutine.replay(model, trace=self._rows)))
            with pyro.validation_enabled(False):
                if self._dim is None:
                    yield program.get_trace(*self.data.args, **self.data.named)
                    continue
                with pyro.plate(PARTICLE_PLATE, size, dim=self._dim):
                    yield program.get_trace(*self.data.args, **self.data.named)

    def _chunk(self) -> int:
        cells = sum(site.value.numel() for site in self.observed.values())
        cells += 8 * sum(math.prod(shape_of(site)) for site in self._alone.latents().values())
        states = 1 if self._alone.enumeration is None else self._alone.enumeration.num_states
        return max(1, CHUNK_ELEMENTS // (cells * states + 1))

    def _pointwise(self, trace: Any) -> dict[str, Tensor]:
        pair = PairTrace(trace, trace, self._dim, self._alone.enumeration)
        if self._alone.enumeration is not None:
            if not all(site.in_data_plate for site in self.observed.values()):
                raise SiteError(
                    f"The likelihood of each observation needs the discrete sites "
                    f"{', '.join(map(repr, sorted(self._alone.enumeration.names)))} summed out "
                    "row by row, but the observed sites lie in no plate 'data'. Name the plate of "
                    "the observations 'data'."
                )
            return pair.model_terms(True).likelihood
        return {
            name: site_arrays.log_density(pair.observed()[name], self._dim, True)
            if site.in_data_plate
            else entries(pair.observed()[name], self._dim)
            for name, site in self.observed.items()
        }


@contextmanager
def replaying(
    model: Callable[..., Any],
    data: Any,
    *,
    guide: Callable[..., Any] | None = None,
    drawn: Collection[str] = (),
) -> Iterator[Replay]:
    """Prepare a model to be run at draws of its latent sites, in double precision.

    Args:
        model: A Pyro program that observes ``data``.
        data: A tensor, a mapping from argument name to tensor, or None.
        guide: What the draws come from; it settles which discrete sites are summed out.
        drawn: Without a guide, the names of the sites that have draws.

    Yields:
        The model, for use inside the ``with`` block only.

    Raises:
        SiteError: If a latent site has no draws and cannot be summed out, or nothing is observed.
    """
    programs = (model,) if guide is None else (model, guide)
    with evaluating(*programs):
        rows = Data.of(data).to(dtype=torch.float64)
        sampler = guide or poutine.block(model, hide_fn=lambda msg: _is_hidden(msg, drawn))
        alone = run_once(model, sampler, rows, is_marked if guide else can_be_summed)
        dim: int | None = free_dim(alone)
        assert dim is not None
        if not (keep_the_contract(model, guide) or vectorises(model, sampler, rows, dim, alone)):
            dim = None
        yield Replay(model, rows, alone, dim)


def _is_hidden(msg: Any, drawn: Collection[str]) -> bool:
    return bool(msg["type"] == "sample" and msg["name"] not in drawn)


def _stacked(parts: Any) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
