r"""A fixed law of z with independent coordinates.

.. math:: p(z) = \prod_i \frac{1}{s_i} \, p_0\!\left(\frac{z_i - m_i}{s_i}\right)

Locations and scales are buffers: they are saved and moved with the model, and never trained.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pyro.distributions import Laplace, Logistic, Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.core.errors import SettingError, UnknownNameError, require_at_least

SHAPES: dict[str, Callable[[Tensor, Tensor], TorchDistribution]] = {
    "normal": Normal,
    "laplace": Laplace,
    "logistic": Logistic,
}


class FactorisedPrior(nn.Module):
    """Independent normal, Laplace or logistic coordinates.

    Args:
        dim: Dimension of z.
        shape: A key of :data:`SHAPES`.
        loc: Locations m, shape ``(dim,)``, or one number for all.
        scale: Positive scales s, shape ``(dim,)``, or one number for all.

    Raises:
        UnknownNameError: If there is no such shape.
        SettingError: If a size does not fit, a location is not finite, or a scale is not positive
            and finite.

    >>> FactorisedPrior(2, "laplace", scale=0.5)().sample().shape
    torch.Size([2])
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        dim: int,
        shape: str = "normal",
        loc: Tensor | float = 0.0,
        scale: Tensor | float = 1.0,
    ) -> None:
        super().__init__()
        require_at_least(1, dim=dim)
        if shape not in SHAPES:
            raise UnknownNameError("shape of a prior", shape, SHAPES)
        self.dim, self.shape = dim, shape
        self.register_buffer("loc", _filled("loc", loc, dim))
        self.register_buffer("scale", _filled("scale", scale, dim))
        if not bool(self.loc.isfinite().all()):
            raise SettingError(f"A prior needs finite locations, but got {self.loc.tolist()}.")
        if not bool(((self.scale > 0) & self.scale.isfinite()).all()):
            raise SettingError(
                f"A prior needs positive, finite scales, but got {self.scale.tolist()}: with a "
                "scale of 0 it has no density. Raise it, or drop the coordinate."
            )

    def forward(self) -> TorchDistribution:
        """Return p(z), event shape ``(dim,)``."""
        return SHAPES[self.shape](self.loc, self.scale).to_event(1)


def fixed_prior(dim: int, prior: FactorisedPrior | str) -> FactorisedPrior:
    """Return a prior of this dimension, given one or the name of its shape.

    Raises:
        UnknownNameError: If there is no such shape.
        SettingError: If the prior has another dimension, or is of another kind.
    """
    if isinstance(prior, str):
        return FactorisedPrior(dim, prior)
    if not isinstance(prior, FactorisedPrior):
        raise SettingError(
            f"prior should be a FactorisedPrior or one of {', '.join(SHAPES)}, but it is a "
            f"{type(prior).__name__}."
        )
    if prior.dim != dim:
        raise SettingError(
            f"A map of dimension {dim} needs a prior of as many coordinates, but the prior has "
            f"{prior.dim}."
        )
    return prior


def _filled(name: str, value: Tensor | float, dim: int) -> Tensor:
    filled = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach()
    if filled.dim() > 0 and filled.shape != (dim,):
        raise SettingError(
            f"{name} of a prior over {dim} coordinates needs shape ({dim},) or a single number, "
            f"but has {tuple(filled.shape)}."
        )
    return filled.expand(dim).clone()
