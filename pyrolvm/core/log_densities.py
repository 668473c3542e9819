r"""Log densities of every site of a model and guide pair: what all measurements are made of.

.. math:: \log w_{kn} = \log p(x_n \mid z_{kn}) + \log p(z_{kn}) - \log q(z_{kn} \mid x_n),
          \qquad z_{kn} \sim q(\cdot \mid x_n)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import sites, tracing
from pyrolvm.core.data import Data
from pyrolvm.core.errors import FactorisationError, SiteError, require_at_least
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.guide import keep_the_contract
from pyrolvm.core.matching import nan_sentence, run_once
from pyrolvm.core.model import Model
from pyrolvm.core.point_masses import refuse_point_masses
from pyrolvm.core.summed_out import is_marked
from pyrolvm.core.tracing import PairTrace
from pyrolvm.core.vectorising import particle_dim

CHUNK_ELEMENTS = 2**23
"""Elements that one chunk of particles and data may fill; about 64 MiB in double precision."""


@dataclass(frozen=True)
class LogDensities:
    """Log densities in nats at K draws of the guide for each of N data.

    Args:
        prior: Of the model's latent sites, by name, shape ``(K, N)`` each. Discrete sites that are
            summed out are not among them (:mod:`~pyrolvm.core.summed_out`): the others that
            depend on them have the marginal density.
        guide: Of the guide's sites (auxiliary ones too), by name, ``(K, N)`` each.
        likelihood: Of the observed sites, by name, ``(K, N)`` each. Where several depend on a
            site that is summed out, their joint density stands at the first of them, and 0 at
            the others.
        values: Draws of the latent sites, by name, ``(K, N, ...)``, or the first of them; empty
            unless they were asked for.
        global_sites: Sites outside the ``"data"`` plate. If there are any, the posterior does not
            factorise over data: the whole data set is one datum, N is 1, and values have shape
            ``(K, ...)``.
    """

    prior: Mapping[str, Tensor]
    guide: Mapping[str, Tensor]
    likelihood: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    global_sites: tuple[str, ...] = ()

    @property
    def log_joint(self) -> Float[Tensor, "particle data"]:
        """Log p(x, z), shape ``(K, N)``; log p(x) where nothing is latent."""
        likelihood = _total(self.likelihood)
        return _total(self.prior) + likelihood if self.prior else likelihood

    @property
    def log_guide(self) -> Float[Tensor, "particle data"]:
        """Log q(z | x), shape ``(K, N)``."""
        return _total(self.guide) if self.guide else torch.zeros_like(self.log_joint)

    @property
    def log_weights(self) -> Float[Tensor, "particle data"]:
        """Log p(x, z) − log q(z | x), shape ``(K, N)``."""
        return self.log_joint - self.log_guide

    @property
    def factorises(self) -> bool:
        """Whether each datum has a posterior of its own."""
        return not self.global_sites

    def require_per_datum(self, quantity: str) -> None:
        """Refuse a per-datum quantity where the posterior does not factorise over data.

        Raises:
            FactorisationError: Naming the sites outside the data plate.
        """
        if self.global_sites:
            raise FactorisationError(
                f"{quantity} per datum needs a posterior that factorises over data, but the site "
                f"{', '.join(map(repr, self.global_sites))} lies outside the plate "
                f"{sites.DATA_PLATE!r}: the whole data set is one datum. Use the figures of the "
                "whole data set, or move the site into the plate."
            )


def _total(densities: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*densities.values())).sum(0)


def log_densities(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    num_particles: int = 100,
    keep_values: bool | int = False,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> LogDensities:
    r"""Draw particles from a guide and score them under guide and model, in double precision.

    Works for any Pyro pair. With a plate ``"data"`` around every site the result is per datum;
    masks, nested plates and subsampling (the scale of the data plate is left out of per-datum
    densities, and all particles see the same rows) are taken into account. Memory stays bounded:
    particles, and for PyroLVM's own programs also rows, are run in chunks. Discrete sites that the
    model marks for enumeration and the guide does not sample are summed out exactly.

    Args:
        model: A Pyro program that observes ``data``.
        guide: A Pyro program with the same arguments.
        data: A tensor, a mapping from argument name to tensor, rows first, or None for programs
            without arguments.
        num_particles: Number of draws K.
        keep_values: Whether to return the draws as well, which may take far more memory than their
            densities. A number bounds them: to the first so many for each datum, or N times as
            many where the whole data set is one datum.
        chunk_elements: Elements that one chunk may fill.

    Returns:
        Log densities in nats, shape ``(K, N)`` for each site.

    Raises:
        SiteError: If sites of model and guide do not match, a log density is NaN, or −inf at every
            draw, the guide has a point mass instead of a density, or a discrete site cannot be
            summed out.
        DataError: If the data cannot be read as rows.
    """
    require_at_least(1, num_particles=num_particles)
    kept = num_particles if keep_values is True else int(keep_values)
    require_at_least(0, keep_values=kept)
    rows = Data.of(data)
    if isinstance(model, Model):
        rows.check_finite()
    with evaluating(model, guide):
        rows = rows.to(dtype=torch.float64)
        parts = (
            _all_particles(model, guide, rows.rows(part), num_particles, kept, chunk_elements)
            for part in _slices(rows.num_rows, _rows_in_chunk(model, guide, rows, chunk_elements))
        )
        found = _join(list(parts), dim=1)
    _refuse_zeros(found)
    return found


def _refuse_zeros(found: LogDensities) -> None:
    """Refuse draws that the model rules out altogether, or that the guide cannot have made."""
    for name, density in (*found.prior.items(), *found.likelihood.items()):
        if len(density) > 1 and density.isneginf().all():
            raise SiteError(
                f"The log density of site {name!r} is −inf at all {len(density)} draws of the "
                "guide: the model rules out every one of them. Check the data, the support of the "
                "site, and where the guide puts its draws."
            )
    for name, density in found.guide.items():
        if density.isneginf().any():
            raise SiteError(
                f"The guide gives {int(density.isneginf().sum())} of its own draws of site "
                f"{name!r} the density 0, so that their weights are infinite. Check that it draws "
                "by the law whose density it states."
            )


def _row_width(rows: Data) -> int:
    return 8 * sum(tensor[0].numel() for _, tensor in rows.items()) + 256


def _rows_in_chunk(model: Any, guide: Any, rows: Data, chunk_elements: int) -> int:
    """Rows that run together: all of them, unless the programs are known to take any part."""
    size = max(1, chunk_elements // (16 * _row_width(rows)))
    if size >= rows.num_rows or not keep_the_contract(model, guide):
        return rows.num_rows
    first = run_once(model, guide, rows.rows(slice(0, size)))
    return rows.num_rows if first.outside_data_plate() else size


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def _all_particles(
    model: Callable,
    guide: Callable,
    rows: Data,
    num_particles: int,
    kept: int,
    elements: int,
) -> LogDensities:
    alone = run_once(model, guide, rows, is_marked)
    refuse_point_masses(model, guide, rows, alone)
    outside = alone.outside_data_plate()
    dim = particle_dim(model, guide, rows, alone)
    states = 1 if alone.enumeration is None else alone.enumeration.num_states
    size = max(1, elements // (rows.num_rows * _row_width(rows) * states))
    chunks = [part.stop - part.start for part in _slices(num_particles, size)]
    with pyro.validation_enabled(False):
        runs = tracing.run_particles(model, guide, rows, chunks, alone, dim)
        parts = (_collect(run, outside, kept > 0) for run in runs)
        first = kept * rows.num_rows if outside else kept
        return _join(list(_with_first_values(parts, first)), dim=0)


def _collect(pair: PairTrace, outside: tuple[str, ...], keep_values: bool) -> LogDensities:
    per_datum, dim = not outside, pair.particle_dim
    latents = pair.latents()

    terms = pair.model_terms(per_datum)
    drawn = {n: sites.log_density(s, dim, per_datum) for n, s in pair.guide_sites().items()}
    for name, array in (*terms.prior.items(), *drawn.items(), *terms.likelihood.items()):
        if array.isnan().any():
            raise SiteError(nan_sentence(name))
    values = {name: sites.value_of(site, dim, per_datum) for name, site in latents.items()}
    return LogDensities(
        terms.prior, drawn, terms.likelihood, values if keep_values else {}, outside
    )


def _with_first_values(parts: Iterable[LogDensities], number: int) -> Iterator[LogDensities]:
    """Let go of all draws but the first ones; a view would keep the others in memory."""
    for part in parts:
        drawn = max((len(value) for value in part.values.values()), default=0)
        if drawn > number:
            first = {name: value[:number].clone() for name, value in part.values.items()}
            yield replace(part, values=first)
        else:
            yield part
        number = max(0, number - drawn)


def _join(parts: list[LogDensities], dim: int) -> LogDensities:
    def joined(field: str) -> dict[str, Tensor]:
        first = getattr(parts[0], field)
        return {
            name: torch.cat([getattr(part, field)[name] for part in parts], dim) for name in first
        }

    if len(parts) == 1:
        return parts[0]
    prior, guide, likelihood, values = map(joined, ("prior", "guide", "likelihood", "values"))
    return LogDensities(prior, guide, likelihood, values, parts[0].global_sites)
