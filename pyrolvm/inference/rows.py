"""Some of the data: the part of a latent space that belongs to them, and a guide's draws there.

A program need not run on fewer rows than it was written for (an autoguide has parameters of every
row, a model may hold labels of its own). Where it does, and gives each row what it gives it among
all, it is run on the chosen rows alone; elsewhere all rows run and the chosen ones are read off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from pyro import poutine
from torch import Tensor

from pyrolvm.core import Data, LogDensities, evaluating, log_densities
from pyrolvm.core import sites as site_arrays
from pyrolvm.core.errors import DataError, PyroLVMError
from pyrolvm.core.latent_space import LatentSpace, latent_space
from pyrolvm.core.log_densities import CHUNK_ELEMENTS
from pyrolvm.core.matching import run_once
from pyrolvm.core.summed_out import is_marked
from pyrolvm.core.tracing import Holding
from pyrolvm.inference.held_rows import HeldRows, Space

PROBES = 2


Rows: TypeAlias = Sequence[int] | Tensor | None
"""Numbers of chosen data; None stands for all of them."""


def row_index(rows: Rows, size: int) -> Tensor:
    """Indices of the chosen rows among so many.

    Raises:
        DataError: If there are none, one occurs twice, or one does not exist.
    """
    if rows is None:
        return torch.arange(size)
    index = torch.as_tensor(rows).long().reshape(-1)
    if not len(index) or len(index.unique()) < len(index):
        raise DataError(f"rows should be different row numbers, at least one, but got {rows}.")
    if int(index.min()) < 0 or int(index.max()) >= size:
        raise DataError(f"rows should lie in 0 to {size - 1}, but got {rows}.")
    return index


def row_numbers(rows: Rows, size: int) -> tuple[int, ...]:
    """Numbers of the chosen rows; 0, 1, … for all of so many."""
    return tuple(range(size) if rows is None else torch.as_tensor(rows).flatten().tolist())


@contextmanager
def space_at_rows(
    model: Callable[..., Any],
    data: Any,
    rows: Rows = None,
    guide: Callable[..., Any] | None = None,
) -> Iterator[Space]:
    """Open the latent space of the chosen rows; that of the data set where it is one datum.

    Args:
        model: A Pyro program.
        data: What it observes, all rows.
        rows: The chosen ones.
        guide: A guide whose parameters shall be in double precision as well.
    """
    given = Data.of(data)
    with latent_space(model, given, guide) as whole:
        if rows is None or not whole.factorises:
            yield whole
            return
        held = HeldRows(whole, row_index(rows, whole.num_data))
        with ExitStack() as stack:
            few = None
            if whole.num_data == given.num_rows:
                few = _alone(stack, model, given.rows(held.rows), guide)
            yield few if few is not None and _agree(few, held) else held


def _alone(
    stack: ExitStack, model: Callable[..., Any], few: Data, guide: Callable[..., Any] | None
) -> LatentSpace | None:
    """The space of some rows without the others; None where the model needs them all."""
    try:
        return stack.enter_context(latent_space(model, few, guide))
    except PyroLVMError:
        return None


def _agree(few: LatentSpace, held: HeldRows) -> bool:
    """Whether rows alone have the log joint densities that they have among all."""
    if few.names != held.names or few.num_data != held.num_data or not few.factorises:
        return False
    points = held.prior_points(PROBES)
    return torch.allclose(
        few.log_joint(points), held.log_joint(points), rtol=1e-9, atol=1e-9, equal_nan=True
    )


def acts_on_rows_alone(
    model: Callable[..., Any], guide: Callable[..., Any], data: Any, index: Tensor
) -> bool:
    """Whether a guide gives chosen rows, in any order, the density that it gives them among all.

    Guides with shared weights do; those with parameters for each place in the data do not.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        data: What both take.
        index: The chosen rows.
    """
    if Data.of(data).num_rows <= int(index.max()):  # the programs hold the data themselves
        return False
    index = index.flip(0)
    with evaluating(model, guide):
        rows = Data.of(data).to(dtype=torch.float64)
        sites = run_once(model, guide, rows, is_marked).guide_sites()
        if any(site_arrays.data_dim(site) is None for site in sites.values()):
            return False
        chosen, expected = {}, {}
        for name, site in sites.items():
            dim = (site_arrays.data_dim(site) or 0) - site["fn"].event_dim
            chosen[name] = site["value"].index_select(dim, index)
            expected[name] = site_arrays.log_density(site, None, True)[:, index]
        few = rows.rows(index)
        try:
            trace = poutine.trace(Holding(chosen)(guide)).get_trace(*few.args, **few.named)
            found = {
                name: site_arrays.log_density(dict(trace.nodes[name]), None, True)
                for name in sites
            }
        except (PyroLVMError, RuntimeError, ValueError, IndexError, KeyError):
            return False
        return all(
            found[name].shape == expected[name].shape
            and torch.allclose(found[name], expected[name], rtol=1e-8, atol=1e-8, equal_nan=True)
            for name in sites
        )


def densities_at_rows(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    rows: Rows,
    num_particles: int,
) -> LogDensities:
    """Draws of a guide at the chosen rows, scored and kept.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        data: What both take, all rows.
        rows: The chosen ones. Without effect where the data set is one datum.
        num_particles: Draws K.

    Returns:
        As :func:`~pyrolvm.core.log_densities.log_densities`, for the chosen rows.
    """
    given = Data.of(data)
    if rows is None:
        return log_densities(model, guide, given, num_particles=num_particles, keep_values=True)
    first = log_densities(model, guide, given, num_particles=1, keep_values=True)
    if not first.factorises:
        return log_densities(model, guide, given, num_particles=num_particles, keep_values=True)
    index = row_index(rows, first.log_weights.shape[1])
    if acts_on_rows_alone(model, guide, given, index):
        try:
            return log_densities(
                model, guide, given.rows(index), num_particles=num_particles, keep_values=True
            )
        except PyroLVMError:
            pass  # the model needs all rows
    size = max(1, CHUNK_ELEMENTS // (64 * first.log_weights.shape[1]))
    return _joined(
        [
            _selected(
                log_densities(
                    model, guide, given,
                    num_particles=min(size, num_particles - start), keep_values=True,
                ),
                index,
            )
            for start in range(0, num_particles, size)
        ]
    )  # fmt: skip


def _selected(found: LogDensities, index: Tensor) -> LogDensities:
    def chosen(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: array[:, index] for name, array in arrays.items()}

    return replace(
        found,
        prior=chosen(found.prior),
        guide=chosen(found.guide),
        likelihood=chosen(found.likelihood),
        values=chosen(found.values),
    )


def _joined(parts: Sequence[LogDensities]) -> LogDensities:
    def joined(field: str) -> dict[str, Tensor]:
        first: Mapping[str, Tensor] = getattr(parts[0], field)
        return {name: torch.cat([getattr(part, field)[name] for part in parts]) for name in first}

    return replace(
        parts[0],
        prior=joined("prior"),
        guide=joined("guide"),
        likelihood=joined("likelihood"),
        values=joined("values"),
    )
