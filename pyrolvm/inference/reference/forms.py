r"""The same posterior in other coordinates: scales that narrow like a funnel, taken out.

.. math:: z \sim N(\mu, \tau) \quad\text{as}\quad z = \mu + \tau \epsilon, \; \epsilon \sim N(0, 1)

Where τ is latent and the data say little of z, chains in z do not enter small τ; chains in ε do.
Draws come back in the coordinates of the program as it is written.

References:
    Papaspiliopoulos, Roberts & Sköld (2007), A General Framework for the Parametrization of
    Hierarchical Models.
    Gorinova, Moore & Hoffman (2019), Automatic Reparameterisation of Probabilistic Programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam
from torch.distributions import Independent, Normal

from pyrolvm.core import Data
from pyrolvm.core.errors import PyroLVMError
from pyrolvm.core.latent_space import Points
from pyrolvm.core.tracing import PairTrace
from pyrolvm.inference.held_rows import Space
from pyrolvm.inference.rows import Rows, space_at_rows


@dataclass(frozen=True)
class Form:
    """One way to write a posterior.

    Args:
        name: ``"as written"`` or ``"non-centred"``.
        space: Where chains move.
        back: From points there, ``(K, N, S)``, to those of the program as it is written.
    """

    name: str
    space: Space
    back: Callable[[Points], Points]


@contextmanager
def forms_of(
    model: Callable[..., Any], data: Any, rows: Rows, space: Space
) -> Iterator[list[Form]]:
    """Ways to write the posterior of the chosen rows, the one of the program first.

    Args:
        model: A Pyro program, in double precision.
        data: What it observes, all rows.
        rows: The chosen ones.
        space: Of them, as the program is written.
    """
    written = Form("as written", space, lambda points: points)
    sites = _dependent_normals(model, data)
    if not sites:
        yield [written]
        return
    freed = poutine.reparam(model, config={name: LocScaleReparam(0.0) for name in sites})
    originals = [site.name for site in space.sites]

    def back(points: Points) -> Points:
        return space.to_points(inner.to_values(points, originals))

    try:
        with space_at_rows(freed, data, rows) as inner:
            fits = inner.dim == space.dim and inner.num_data == space.num_data
    except PyroLVMError:
        fits = False
    if not fits:
        yield [written]
        return
    with space_at_rows(freed, data, rows) as inner:
        yield [written, Form("non-centred", inner, back)]


def _dependent_normals(model: Callable[..., Any], data: Any) -> list[str]:
    """Latent sites whose prior is normal with a location or scale that is itself latent."""
    rows = Data.of(data).to(dtype=torch.float64)
    traces = [poutine.trace(model).get_trace(*rows.args, **rows.named) for _ in range(2)]
    first, second = (PairTrace(trace, trace).latents() for trace in traces)
    found = []
    for name in first.keys() & second.keys():
        one, other = _normal(first[name]["fn"]), _normal(second[name]["fn"])
        if one is None or other is None:
            continue
        if not (torch.equal(one.loc, other.loc) and torch.equal(one.scale, other.scale)):
            found.append(name)
    return sorted(found)


def _normal(law: Any) -> Normal | None:
    """The normal law inside reinterpreted dimensions, None for any other."""
    while isinstance(law, Independent):
        law = law.base_dist
    return law if isinstance(law, Normal) else None
