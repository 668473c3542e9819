"""What values the layers of a hierarchy take: reals, zeros and ones, one-hot vectors."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyrolvm.core.randomness import own_randomness

Values = Literal["real", "binary", "one-hot", "discrete"]
"""Real vectors; zeros and ones, free of each other; one-hot vectors; any other discrete values."""


def layer_laws(model: Any) -> dict[str, TorchDistribution]:
    """Return the prior of each layer at one draw of the layers above it.

    Random numbers of the caller stay as they were.

    Args:
        model: Any object that offers :class:`pyrolvm.core.Layered`.

    Returns:
        p(z_l | z_{>l}) by name, top first.
    """
    laws: dict[str, TorchDistribution] = {}
    values: dict[str, Tensor] = {}
    with torch.no_grad(), own_randomness():
        for site in model.latent_sites:
            laws[site] = model.layer_prior(site, values)
            values[site] = laws[site].sample().expand(1, model.layer_dims[site])
    return laws


def values_of(law: TorchDistribution) -> Values:
    """Say which values a law is over."""
    support: Any = law.support
    if getattr(support, "base_constraint", support) is constraints.boolean:
        return "binary"
    if support is constraints.one_hot:
        return "one-hot"
    return "discrete" if support.is_discrete else "real"


def first_layer_beyond(model: Any, *allowed: Values) -> str | None:
    """Describe the first layer, from the top, with other values than these.

    Args:
        model: Any object that offers :class:`pyrolvm.core.Layered`.
        *allowed: Values that a layer may have.

    Returns:
        For example ``"the layer 'z_2' of MyModel is drawn from a Normal"``; None if there is none.
    """
    for site, law in layer_laws(model).items():
        if values_of(law) not in allowed:
            return f"the layer {site!r} of {type(model).__name__} is {_described(law)}"
    return None


def _described(law: Any) -> str:
    known = {"binary": "of zeros and ones", "one-hot": "a one-hot vector"}
    if values_of(law) in known:
        return known[values_of(law)]
    while hasattr(law, "base_dist"):
        law = law.base_dist
    name = type(law).__name__
    return f"drawn from {'an' if name[0] in 'AEIO' else 'a'} {name}"
