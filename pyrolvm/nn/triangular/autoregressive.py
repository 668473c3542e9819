r"""The base of layers that map each coordinate increasingly, given the ones before it.

.. math:: v_i = h(u_i;\, \theta_i(u_1, \ldots, u_{i-1})), \qquad h \text{ increasing in } u_i

The Jacobian is lower triangular with positive diagonal for all weights: the layer is a triangular
monotone increasing (TMI) map. Compositions and inverses of such maps are TMI again. The inverse
takes one coordinate after another.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import require_at_least
from pyrolvm.nn.triangular.bijection import Bijection, check_width
from pyrolvm.nn.triangular.conditioner import Conditioner


class AutoregressiveLayer(Bijection):
    """A TMI layer; a subclass gives the increasing function of a single coordinate.

    Args:
        dim: Dimension d.
        num_parameters: Parameters of the function of one coordinate.
        hidden: Widths of the conditioner's hidden layers.
    """

    def __init__(self, dim: int, num_parameters: int, hidden: Sequence[int]) -> None:
        super().__init__()
        require_at_least(1, dim=dim)
        self.dim = dim
        self.conditioner = Conditioner(dim, num_parameters, hidden)

    @abstractmethod
    def increase(
        self, inputs: Float[Tensor, "*batch"], parameters: Float[Tensor, "*batch P"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return h(u; θ) and log h'(u; θ), element by element."""

    @abstractmethod
    def undo(
        self, outputs: Float[Tensor, "*batch"], parameters: Float[Tensor, "*batch P"]
    ) -> Float[Tensor, "*batch"]:
        """Return the u of h(u; θ) = v, element by element."""

    def forward(
        self, inputs: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the outputs and log |det J|, in nats.

        Raises:
            DataError: If the inputs have another width.
        """
        check_width(inputs, self.dim, type(self).__name__)
        outputs, log_slopes = self.increase(inputs, self.conditioner(inputs))
        return outputs, log_slopes.sum(-1)

    def inverse(self, outputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the inputs that lead to these outputs, first coordinate first.

        Raises:
            DataError: If the outputs have another width.
        """
        check_width(outputs, self.dim, type(self).__name__)
        found: list[Tensor] = []
        for index, output in enumerate(outputs.unbind(-1)):
            rest = [torch.zeros_like(output)] * (self.dim - index)
            parameters = self.conditioner(torch.stack([*found, *rest], -1))
            found.append(self.undo(output, parameters[..., index, :]))
        return torch.stack(found, -1)
