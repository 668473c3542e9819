r"""Draws of discrete sites that a guide leaves to be summed out.

.. math:: k \sim p(k \mid z, x), \qquad z \sim q(z \mid x)

Predicting the observations of a datum anew needs its class, which the guide does not know but the
model does: each site is drawn from its exact conditional, the later ones summed out.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.ops import packed
from pyro.poutine import Trace
from torch import Tensor

from pyrolvm.core.packed_factors import Factors
from pyrolvm.core.tracing import PairTrace


def with_discrete_draws(pair: PairTrace) -> Trace:
    """Return a guide's run with draws of the sites that are summed out of the model.

    Args:
        pair: A run of model and guide.
    """
    completed = pair.guide.copy()
    if pair.enumeration is None:
        return completed
    factors = Factors(pair.model, pair.particle_dim, per_datum=False)
    nodes: dict[str, Any] = dict(pair.model.nodes)
    for name in factors.summed_sites:
        site = nodes[name]
        where = packed.unpack(_draw(factors, name), pair.model.symbol_to_dim)
        completed.add_node(name, **{**site, "value": _values(site["fn"])[where]})
    return completed


def _draw(factors: Factors, name: str) -> Any:
    """Draw a site's position in its support, and fix it there for the sites that follow."""
    logits = factors.conditional(name)
    position: Any = torch.distributions.Categorical(logits=logits).sample()
    position._pyro_dims = logits._pyro_dims[:-1]
    factors.fix(name, position)
    return position


def _values(fn: Any) -> Tensor:
    """Support of a discrete distribution, shape ``(size, event…)``."""
    support = fn.enumerate_support(expand=False)
    return support.reshape(len(support), *fn.event_shape)
