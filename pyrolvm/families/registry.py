"""Families by name."""

from __future__ import annotations

import inspect

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.families.bernoulli import Bernoulli
from pyrolvm.families.diagonal import Diagonal
from pyrolvm.families.family import Family
from pyrolvm.families.flow import Flow
from pyrolvm.families.full import Full
from pyrolvm.families.mixture import Mixture
from pyrolvm.families.sign import Sign

FAMILIES: dict[str, type[Family]] = {
    family.name: family for family in (Diagonal, Full, Mixture, Flow, Sign, Bernoulli)
}


def make_family(name: str | Family, dim: int, **options: int) -> Family:
    """Build a family from its name, or take one that is built.

    Args:
        name: A key of :data:`FAMILIES`, or a family of this dimension, which is returned as it is.
        dim: Dimension of the latent vector.
        **options: What the family takes besides: ``num_components`` (mixture), ``num_layers``
            (flow).

    Raises:
        UnknownNameError: If there is no such family, or it has no such option.
        SettingError: If a built family has another dimension, or options come with it.

    >>> make_family("mixture", dim=2, num_components=3)
    Mixture(dim=2, num_components=3)
    """
    if isinstance(name, Family):
        if name.dim != dim or options:
            raise SettingError(
                f"A guide for {dim} latent dimensions cannot use {name!r}"
                f"{' with further options' if options else ''}. Build it as wanted, or name it."
            )
        return name
    if name not in FAMILIES:
        raise UnknownNameError("guide family", name, FAMILIES)
    known = [option for option in inspect.signature(FAMILIES[name]).parameters if option != "dim"]
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of the family {name!r}", option, known)
    return FAMILIES[name](dim, **options)
