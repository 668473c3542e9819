r"""A family over all latent sites of a model: which part of λ belongs to which site.

.. math:: q(z_1, \dots, z_L; \lambda) = \prod_l q(z_l; \lambda_l),
          \qquad \lambda = (\lambda_L, \dots, \lambda_1)

One latent vector takes any family of real vectors; layers of zeros and ones take the Bernoulli
family, whose units are independent, within a layer and across layers.
"""

from __future__ import annotations

from typing import Any

import pyro
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Guide, IncompatiblePairError, Layered, VectorLatent
from pyrolvm.core.layer_laws import first_layer_beyond
from pyrolvm.core.pairing import offers
from pyrolvm.families import FAMILIES, Family, make_family

Latents = Tensor | dict[str, Tensor]
"""Draws of the only site, ``(..., N, D)``, or of each layer by name, top first."""


class LatentFamily:
    """A family of distributions over the latents of a model.

    Args:
        guide: Searches the family; its model has one latent vector, or layers of zeros and ones.
        family: A key of :data:`pyrolvm.families.FAMILIES`, or a family over all latents at once.
        **options: What the family takes besides.

    Attributes:
        family: The family over all latents, side by side.
        widths: Width of each site by name, top first.

    Raises:
        IncompatiblePairError: If the family is over real numbers and the latents are zeros and
            ones, or the other way round, or there are several real sites.
        UnknownNameError: If there is no such family or option.
    """

    def __init__(self, guide: Guide, family: str | Family, **options: int) -> None:
        model = guide.model
        self.layered = has_binary_layers(model)
        if self.layered:
            self.widths = {site: model.layer_dims[site] for site in model.latent_sites}
        else:
            self.widths = {guide.only_site(): model.latent_dim}
        self.family = make_family(family, sum(self.widths.values()), **options)
        if self.family.is_binary != self.layered:
            raise IncompatiblePairError(_other_values(self.family, type(model).__name__))

    def sample(self, parameters: Float[Tensor, "*batch P"]) -> Latents:
        """Sample every site; called within the plate of the data.

        Args:
            parameters: λ of each datum, shape ``(..., N, P)``.
        """
        if not self.layered:
            (site,) = self.widths
            draws: Tensor = pyro.sample(site, self.family.distribution(parameters))
            return draws
        parts = parameters.split(list(self.widths.values()), -1)
        return {
            site: pyro.sample(site, self.family.distribution(part))
            for site, part in zip(self.widths, parts, strict=True)
        }


def has_binary_layers(model: Any) -> bool:
    """Whether a model has layers, and all of them are of zeros and ones."""
    return offers(model, Layered) and first_layer_beyond(model, "binary") is None


def layers_obstacle(guide: type, model: Any) -> str | None:
    """Say why a guide for one latent vector, or for binary layers, cannot serve a model.

    Args:
        guide: A class that requires ``VectorLatent | Layered``.
        model: Offers one of the two.

    Returns:
        The reason; None where there is one vector, or all layers are of zeros and ones.
    """
    if offers(model, VectorLatent):
        return None
    found = first_layer_beyond(model, "binary")
    reason = f"{guide.__name__} serves several layers only where all are of zeros and ones"
    return None if found is None else f"{reason}, but {found}"


def _other_values(family: Family, model: str) -> str:
    fitting = [repr(name) for name, kind in FAMILIES.items() if kind.is_binary != family.is_binary]
    names = " or ".join(filter(None, (", ".join(fitting[:-1]), fitting[-1])))
    if family.is_binary:
        return (
            f"The family {family.name!r} is over zeros and ones, but the latent vector of {model} "
            f"is of real numbers. Use the family {names}."
        )
    return (
        f"The family {family.name!r} is over real vectors, but the latents of {model} are zeros "
        f"and ones. Use the family {names}."
    )
