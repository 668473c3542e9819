r"""The two maps of single coordinates that every flow starts with.

.. math:: x_i \mapsto (x_i - m_i) / s_i, \qquad x_i \mapsto \pm x_i

Both are diagonal, hence triangular; the first is increasing, the second carries the signature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import DataError, SettingError, require_at_least
from pyrolvm.nn.triangular.bijection import Bijection, check_finite, check_width


class Standardise(Bijection):
    """Centres and scales each coordinate by the moments of data; the identity before it saw any.

    The boxes of splines and of integrals are bounded, and the data should lie inside.

    Args:
        dim: Dimension d.
        isotropic: One scale for all coordinates, or one each.
    """

    loc: Tensor
    scale: Tensor
    was_set: Tensor

    def __init__(self, dim: int, isotropic: bool = False) -> None:
        super().__init__()
        require_at_least(1, dim=dim)
        self.dim, self.isotropic = dim, isotropic
        self.register_buffer("loc", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("was_set", torch.tensor(False))

    def forward(
        self, inputs: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the standardised inputs and log |det J|, in nats."""
        log_det = -self.scale.log().sum().expand(inputs.shape[:-1])
        return (inputs - self.loc) / self.scale, log_det

    def inverse(self, outputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return to the units of the data."""
        return outputs * self.scale + self.loc

    def set_from(self, x: Float[Tensor, "data dim"]) -> None:
        """Take over means and standard deviations of data, shape ``(N, dim)``.

        Raises:
            DataError: If the width is another one, a value is not finite, there are fewer than
                two rows, or a coordinate does not vary.
        """
        check_width(x, self.dim, "Standardising")
        check_finite(x, "Standardising")
        scale = x.double().std(0) if len(x) > 1 else x.new_zeros(self.dim)
        flat = torch.nonzero(~(scale > 0)).flatten().tolist()
        if flat:
            raise DataError(
                f"Standardising needs coordinates that vary, but over the {len(x)} rows given "
                f"coordinate {flat[0]} is constant. Drop it, or add noise."
            )
        self.loc.copy_(x.double().mean(0))
        self.scale.copy_(scale.square().mean().sqrt() if self.isotropic else scale)
        self.was_set.fill_(True)


class Signs(Bijection):
    """Turns the coordinates round whose sign is −1; it is its own inverse.

    Args:
        dim: Dimension d.
        signature: Signs +1 or −1, one each; all +1 where it is None.

    Raises:
        SettingError: If there are not d signs, or one is neither +1 nor −1.
    """

    signature: Tensor

    def __init__(self, dim: int, signature: Sequence[int] | None = None) -> None:
        super().__init__()
        require_at_least(1, dim=dim)
        signs = torch.ones(dim) if signature is None else torch.as_tensor(signature).float()
        if signs.shape != (dim,) or not bool((signs.abs() == 1).all()):
            raise SettingError(
                f"A signature needs {dim} signs, each +1 or -1, but it is {signs.tolist()}. "
                "Give one sign a coordinate."
            )
        self.dim = dim
        self.register_buffer("signature", signs)

    def forward(
        self, inputs: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the inputs with their signs, and log |det J| = 0."""
        return inputs * self.signature, inputs.new_zeros(inputs.shape[:-1])

    def inverse(self, outputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Do the same."""
        return outputs * self.signature
